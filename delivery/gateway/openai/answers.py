"""What an upstream's answer says, as far as the gateway must know: content, an end, token counts, or an error."""

import re
from typing import Any, NamedTuple

import orjson

from delivery.gateway.openai.errors import ApiError
from delivery.gateway.openai.forced import UNSAID

CLIENTS_FAULT = frozenset((400, 413, 422))
FRAME_LIMIT = 16 * 1024 * 1024  # bytes of one server-sent event


class UpstreamError(Exception):
    """The variant failed. `answer` is what it said all the same, where that is an answer (an empty one).

    `cause`: the operating system's words, for the log. `was_sent`, `is_lost`: as UnreachableError says them.
    """

    def __init__(
        self,
        kind: str,
        status: int = 0,
        answer: bytes = b"",
        cause: str = "",
        *,
        was_sent: bool = True,
        is_lost: bool = False,
    ):
        super().__init__(kind)
        self.was_sent = was_sent
        self.is_lost = is_lost
        self.kind = kind
        self.cause = cause
        self.status = status
        self.answer = answer


class Frames:
    """Bytes of an event stream in any cut, to the data of its complete events."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that these bytes complete. Raises UpstreamError on an event beyond all measure."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > FRAME_LIMIT or len(self._lines) > FRAME_LIMIT // 16:
            raise UpstreamError("malformed")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._lines.append(line[5:].removeprefix(b" "))
            elif not line and self._lines:
                events.append(b"\n".join(self._lines))
                self._lines.clear()
        return events


def parse_object(data: bytes, status: int) -> dict[str, Any]:
    """A JSON object. Raises UpstreamError `malformed` on anything else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UpstreamError("malformed", status) from None
    if not isinstance(value, dict):
        raise UpstreamError("malformed", status)
    return value


def error_in(answer: dict[str, Any]) -> dict[str, Any] | None:
    """The error that an answer, a chunk or an event carries, in vLLM's present shape, its former one or OpenAI's."""
    error = answer.get("error")
    if error:
        return error if isinstance(error, dict) else {"message": str(error)}
    kind = answer.get("object") or answer.get("type")
    if kind == "response.failed":
        response = answer.get("response")
        return (response.get("error") if isinstance(response, dict) else None) or {}
    return answer if kind == "error" else None


class Gist(NamedTuple):
    """What an answer or a chunk says."""

    has_content: bool  # any choice's; an answer cut by its token limit counts as said
    finish_reason: str  # of the first choice that names one; "": none has ended
    text: str  # the first choice's
    stopped_by: Any = UNSAID  # vLLM's `stop_reason` of the choice that named its end


def tokens_in(answer: dict[str, Any]) -> tuple[int, int] | None:
    """(prompt tokens, completion tokens) if the answer tells."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if prompt is None:
        prompt, completion = usage.get("input_tokens"), usage.get("output_tokens")
    if not isinstance(prompt, int) or not (completion is None or isinstance(completion, int)):
        return None
    return prompt, completion or 0


def choices_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer's choices, as far as they are objects."""
    choices = answer.get("choices")
    return [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []


def declined(status: int, error: dict[str, Any], model: str, route: str) -> ApiError:
    """The model's own complaint about a request, as the client may see it: under the route's name."""
    said = str(error.get("message") or "The model declined the request.")
    message = re.sub(rf"(?<![\w-]){re.escape(model)}(?![\w-])", lambda _: route, said)
    param = error.get("param")
    kind = error.get("type")
    return ApiError(
        status,
        message,
        code=None,
        param=param if isinstance(param, str) else None,
        kind=kind if isinstance(kind, str) else "invalid_request_error",
        source="model",
    )
