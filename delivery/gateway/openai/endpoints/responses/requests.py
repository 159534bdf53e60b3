"""A request of OpenAI's Responses API, stateless: what it may hold, what vLLM is sent, and what it says as chat.

vLLM's own `/v1/responses` gives the answers. It remembers nothing unless it is told to, and then forgets nothing, so
that `store` is always false; what would need a memory is refused here, where the error can say what to do instead.
"""

from collections.abc import Mapping
from typing import Any

from configs.routing import Policy, Variant
from delivery.gateway.openai.endpoints.messages import SYSTEM_ROLES, text_of
from delivery.gateway.openai.errors import ApiError

PARAMETERS = """
    input access_programs background background_options context_management conversation image include instructions
    max_output_tokens max_tool_calls metadata moderation parallel_tool_calls previous_response_id prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning service_tier store stream stream_options
    temperature text tool_choice tools top_logprobs top_p truncation
    frequency_penalty ignore_eos include_stop_str_in_output logit_bias min_p presence_penalty repetition_penalty seed
    skip_special_tokens stop stop_token_ids structured_outputs top_k
"""
REMEMBERED = "Nothing is stored here: send the conversation so far in `input`, every time."
NEEDS_MEMORY = {
    "previous_response_id": REMEMBERED,
    "conversation": REMEMBERED,
    "background": "Nothing is stored here, so that no answer can be fetched later: leave `background` out.",
    "prompt": "No prompt templates are kept here: send `instructions` and `input`.",
}
REFERENCE = "refers to an item that was stored. " + REMEMBERED + " With `store: false` official clients do so."
NOT_SENT = frozenset(("stream_options", "background_options", *NEEDS_MEMORY))
ROLES = frozenset(("user", "assistant")) | SYSTEM_ROLES
ResponseItem = dict[str, Any]


def check_input(body: Mapping[str, Any]) -> None:
    """Whether `input` is well formed and the request needs no memory. Raises ApiError (400)."""
    for name, cure in NEEDS_MEMORY.items():
        if body.get(name) not in (None, False):
            raise ApiError(400, f"`{name}` is not supported. {cure}", code="unsupported_parameter", param=name)
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise ApiError(
            400, "`input` must be a text, or a list of items, that is not empty.", code="invalid_type", param="input"
        )
    if isinstance(given, list):
        for index, item in enumerate(given):
            _check_item(f"input[{index}]", item)
    for name, kind in (("instructions", str), ("text", dict), ("reasoning", dict), ("tools", list)):
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise ApiError(400, f"`{name}` must be a {kind.__name__}.", code="invalid_type", param=name)


def _check_item(where: str, item: Any) -> None:
    kind = kind_of(item) if isinstance(item, dict) else None
    if not isinstance(kind, str):
        raise ApiError(400, f"`{where}` must be an object with a `type`.", code="invalid_type", param=where)
    if kind == "item_reference":
        raise ApiError(400, f"`{where}` {REFERENCE}", code="unsupported_value", param=where)
    if kind != "message":
        return
    if not isinstance(item.get("role"), str) or item["role"] not in ROLES:
        what = f"`{where}` needs a role of: {', '.join(sorted(ROLES))}."
        raise ApiError(400, what, code="invalid_value", param=f"{where}.role")
    content = item.get("content")
    if not isinstance(content, str) and not (isinstance(content, list) and all(isinstance(p, dict) for p in content)):
        what = f"`{where}.content` must be a text, or a list of parts."
        raise ApiError(400, what, code="invalid_type", param=f"{where}.content")


def kind_of(item: ResponseItem) -> Any:
    """An item's type, which messages and references may leave out."""
    if item.get("type") is not None:
        return item["type"]
    return "message" if "role" in item or item.keys() != {"id"} else "item_reference"


def is_system(item: ResponseItem) -> bool:
    """Whether this is a system's or a developer's message."""
    return kind_of(item) == "message" and item["role"] in SYSTEM_ROLES


def for_vllm(body: Mapping[str, Any], variant: Variant, policy: Policy) -> dict[str, Any]:
    """What vLLM's `/v1/responses` is sent, but for model and limits.

    Raises ApiError (400) if none of the client's messages is left.
    """
    sent = {name: value for name, value in body.items() if value is not None and name not in NOT_SENT}
    sent["store"] = False
    if isinstance(body["input"], list):
        sent["input"] = [_plain(item) for item in body["input"]]
    if variant.system_prompt:
        _put_in_front(sent, variant, appends=policy.system_messages == "append")
    return sent


def _plain(item: ResponseItem) -> ResponseItem:
    """An assistant's message as a plain text: vLLM reads only its first part, and goes on with one not completed."""
    if kind_of(item) == "message" and item["role"] == "assistant":
        return {"role": "assistant", "content": text_of(item["content"])}
    return item


def _put_in_front(sent: dict[str, Any], variant: Variant, *, appends: bool) -> None:
    """The variant's system prompt, in place of the client's `instructions` and system messages or before them."""
    prompt, given = variant.system_prompt or "", sent["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    said = sent.pop("instructions", None)
    own = [{"role": "system", "content": said}] if said else []
    own += [item for item in items if is_system(item)]
    others = [item for item in items if not is_system(item)]
    if not others and not appends:
        what = "`input` holds system messages only, and this model has a system prompt of its own."
        raise ApiError(400, what, code="invalid_value", param="input")
    if variant.system_place == "system":
        sent["instructions"] = prompt
        sent["input"] = [*own[: bool(said)], *items] if appends else others
        return
    if appends:  # the template takes no system messages
        prompt = "\n\n".join([prompt, *(text_of(item["content"]) for item in own)])
    sent["input"] = _in_first_turn(others, prompt)


def _in_first_turn(items: list[ResponseItem], prompt: str) -> list[ResponseItem]:
    first = items[0] if items else {}
    if kind_of(first) != "message" or first.get("role") != "user":
        return [{"role": "user", "content": prompt}, *items]
    content = first["content"]
    if isinstance(content, str):
        return [{**first, "content": f"{prompt}\n\n{content}"}, *items[1:]]
    return [{**first, "content": [{"type": "input_text", "text": f"{prompt}\n\n"}, *content]}, *items[1:]]


def in_its_words(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A variant's own parameters, which are chat completions', as this API calls them."""
    said = dict(parameters)
    if (effort := said.pop("reasoning_effort", None)) is not None:
        said.setdefault("reasoning", {"effort": effort})
    text = {}
    if (verbosity := said.pop("verbosity", None)) is not None:
        text["verbosity"] = verbosity
    if isinstance(form := said.pop("response_format", None), dict):
        text["format"] = {"type": form.get("type"), **(form.get("json_schema") or {})}
    return {"text": text, **said} if text else said


def as_messages(body: Mapping[str, Any]) -> list[ResponseItem]:
    """The request as a chat's messages, for those who read what was said."""
    said = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    if isinstance(body["input"], str):
        return [*said, {"role": "user", "content": body["input"]}]
    return said + [message for item in body["input"] if (message := _as_message(item)) is not None]


def _as_message(item: ResponseItem) -> ResponseItem | None:
    kind = kind_of(item)
    if kind == "message":
        return {"role": item["role"], "content": _as_content(item["content"])}
    if kind == "reasoning":
        return None
    call_id = item.get("call_id")
    if str(kind).endswith("_output"):
        return {"role": "tool", "tool_call_id": call_id, "content": _as_content(item.get("output"))}
    function = {"name": item.get("name"), "arguments": item.get("arguments") or item.get("input")}
    return {"role": "assistant", "tool_calls": [{"id": call_id, "type": "function", "function": function}]}


def _as_content(content: Any) -> Any:
    """Texts as one text; what has other parts stays as it is."""
    if isinstance(content, list) and all("text" in part for part in content if isinstance(part, dict)):
        return text_of(content)
    return content
