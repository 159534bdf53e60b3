"""A stream of the Responses API: its events have names and numbers, and the last one ends it."""

from typing import Any

import orjson

from delivery.gateway.openai.endpoints.responses.answers import ENDS, as_seen, named_as_official
from delivery.gateway.openai.streams import PREAMBLE_LIMIT, Stream, count_tokens


class EventStream(Stream):
    """One stream of events, turned into the client's."""

    done = b""

    @property
    def most_held(self) -> int:  # type: ignore[override]
        """Bytes before the first content; they repeat what the client sent, twice."""
        return PREAMBLE_LIMIT + 3 * self._call.size

    @staticmethod
    def error(body: dict[str, dict[str, Any]], number: int = 0) -> bytes:
        """An error event, which ends the stream too; some clients look for the error within, some do not."""
        error = body["error"]
        flat = {name: error[name] for name in ("code", "message", "param")}
        return _event("error", {"type": "error", "sequence_number": number, **flat, **body})

    def _chunk(self, chunk: dict[str, Any]) -> bytes:
        response = chunk.get("response")
        if isinstance(response, dict):
            as_seen(response, self._call.body, self._call.name)
            count_tokens(self._attempt, response)
            named_as_official(chunk)
        self._note(chunk)
        kind, number = str(chunk.get("type")), chunk.get("sequence_number")
        self._ended = kind in ENDS
        self.next_number = number + 1 if isinstance(number, int) else self.next_number + 1
        return _event(kind, chunk)


def _event(kind: str, event: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
