"""An answer of the Responses API, and the events of a streamed one: what they say, and how a client sees them."""

from collections.abc import Mapping
from typing import Any

from delivery.gateway.openai.answers import Gist

TEXT = "response.output_text.delta"
ENDS = frozenset(("response.completed", "response.incomplete"))
INSIDE = ("input_messages", "output_messages", "kv_transfer_params", "ec_transfer_params", "metrics")  # vLLM's own
REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


def response_gist(answer: dict[str, Any], streamed: bool) -> Gist:
    """Of a whole response, or of one event of a stream; its end is said in chat completions' words."""
    if not streamed:
        return _gist_of(answer)
    kind = str(answer.get("type"))
    if kind == TEXT:
        text = answer.get("delta")
        return Gist(bool(text), "", text if isinstance(text, str) else "")
    if kind in ENDS:
        whole = answer.get("response")
        return _gist_of(whole)._replace(text="") if isinstance(whole, dict) else Gist(False, "", "")
    if kind == "response.output_item.added":
        return Gist(_is_call(answer.get("item")), "", "")
    return Gist(kind.endswith(".delta") and bool(answer.get("delta")), "", "")


def _gist_of(response: Mapping[str, Any]) -> Gist:
    output = response.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    parts = [part for item in items for part in _parts(item)]
    texts = [part["text"] for part in parts if part.get("type") == "output_text" and isinstance(part.get("text"), str)]
    is_call = any(_is_call(item) for item in items)
    end = _finish_reason(response, is_call=is_call)
    has_content = is_call or end == "length" or any(part.get("text") or part.get("refusal") for part in parts)
    return Gist(has_content, end, "".join(texts))


def _finish_reason(response: Mapping[str, Any], *, is_call: bool) -> str:
    if response.get("status") == "completed":
        return "tool_calls" if is_call else "stop"
    if response.get("status") != "incomplete":
        return ""
    details = response.get("incomplete_details")
    return REASONS.get(str(details.get("reason")), "length") if isinstance(details, dict) else "length"


def _is_call(item: Any) -> bool:
    return isinstance(item, dict) and str(item.get("type")).endswith("_call")


def _parts(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message's content, or a chain of thought."""
    found = [item.get("content"), item.get("summary")]
    return [part for parts in found if isinstance(parts, list) for part in parts if isinstance(part, dict)]


def as_seen(response: dict[str, Any], body: Mapping[str, Any], route: str) -> None:
    """Changes an answer to what its client may see: its own words, and nothing of the variant's prompt."""
    response["model"] = route
    response["instructions"] = body.get("instructions")
    response["store"] = False
    response.setdefault("error", None)
    for name in INSIDE:
        response.pop(name, None)


def named_as_official(event: dict[str, Any]) -> None:
    """vLLM says `completed` of an answer that its limit cut, too."""
    response = event.get("response")
    is_cut = isinstance(response, dict) and response.get("status") == "incomplete"
    if is_cut and event.get("type") == "response.completed":
        event["type"] = "response.incomplete"
