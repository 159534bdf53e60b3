"""An upstream's event stream on its way to the client: read, renamed, and broken off where it breaks."""

import asyncio
import contextlib
from typing import Any

import orjson

from configs.routing import Variant
from delivery.gateway.answers import (
    CLIENTS_FAULT,
    Frames,
    UpstreamError,
    declined,
    error_in,
    is_finished,
    parse_object,
    tokens_in,
)
from delivery.gateway.attempts import Attempt
from delivery.gateway.chat import Call
from delivery.gateway.http_upstream import Answer, BrokenOffError

LAST_BYTES_S = 0.2  # between [DONE] and the end of the response
DONE = b"data: [DONE]\n\n"


class Stream:
    """One upstream event stream, turned into the client's: `first`, then `read` until it is empty."""

    def __init__(self, said: Answer, call: Call, variant: Variant, attempt: Attempt, idle_s: float):
        self.first = b""
        self._said = said
        self._call = call
        self._variant = variant
        self._attempt = attempt
        self._idle_s = idle_s
        self._frames = Frames()
        self._has_content = False
        self._finished = False  # a choice named the reason of its end
        self._ended = False
        self._asked_at: float | None = None  # loop time; None while nobody waits for upstream
        self._watch: asyncio.TimerHandle | None = None  # one for the whole stream: one per chunk costs too much
        self._is_late = False

    def close(self) -> None:
        """Ends it upstream too, if it has not ended there."""
        if self._watch is not None:
            self._watch.cancel()
        self._said.close()

    async def start(self) -> None:
        """Reads through the first content; what comes before it is held back with it in `first`."""
        held = b""
        while not (self._has_content or self._ended):
            data = await self._said.read_some()
            if not data:
                break
            held += self._shown(data)
        if not self._has_content:
            raise UpstreamError("empty", 200, held + DONE if self._finished else b"")
        self.first = held + DONE if self._ended else held

    async def read(self) -> bytes:
        """The next bytes for the client, b"" at the end. Raises UpstreamError when the stream breaks."""
        loop = asyncio.get_running_loop()
        self._asked_at = loop.time()
        if self._watch is None:
            self._watch = loop.call_later(self._idle_s, self._look, loop)
        try:
            while not self._ended:
                data = await self._said.read_some()
                shown = self._shown(data) if data else self._end_without_done()
                if self._ended:
                    return shown + DONE
                if shown:
                    return shown
        except BrokenOffError:
            raise UpstreamError("idle_timeout" if self._is_late else "midstream", 200) from None
        finally:
            self._asked_at = None
        with contextlib.suppress(BrokenOffError, TimeoutError):  # the answer is complete; this is for keep-alive
            async with asyncio.timeout(LAST_BYTES_S):
                await self._said.read_some()
        return b""

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        left = self._idle_s if self._asked_at is None else self._asked_at + self._idle_s - loop.time()
        if left > 0:
            self._watch = loop.call_later(left, self._look, loop)
        else:
            self._is_late = True
            self._said.give_up()

    def _end_without_done(self) -> bytes:
        if not self._finished:
            raise UpstreamError("midstream", 200)
        self._ended = True
        return b""

    def _shown(self, data: bytes) -> bytes:
        shown = []
        for event in self._frames.feed(data):
            if event == b"[DONE]":
                self._ended = True
                break
            chunk = parse_object(event, 200)
            error = error_in(chunk)
            if error is None:
                shown.append(self._chunk(chunk))
            elif self._has_content and self.first:
                raise UpstreamError("midstream", 200, b"".join(shown))
            else:
                raise refused_in_band(error, self._variant, self._call)
        return b"".join(shown)

    def _chunk(self, chunk: dict[str, Any]) -> bytes:
        chunk["model"] = self._call.name
        if "usage" in chunk:
            count_tokens(self._attempt, chunk)
            if not self._call.wants_usage:
                del chunk["usage"]
                if not chunk.get("choices"):
                    return b""
        if self._call.endpoint.has_content(chunk, True):
            self._has_content = True
            self._attempt.chunks += 1
        self._finished = self._finished or is_finished(chunk)
        if self._attempt.said is not None:
            self._attempt.said.add(chunk, streamed=True)
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


def refused_in_band(error: dict[str, Any], variant: Variant, call: Call) -> Exception:
    """vLLM says 200 before it knows: its error then comes as the answer."""
    code = error.get("code")
    if isinstance(code, int) and code in CLIENTS_FAULT:
        return declined(code, error, variant.model, call.name)
    return UpstreamError("first_frame", 200)


def count_tokens(attempt: Attempt, answer: dict[str, Any]) -> None:
    """Notes what the answer says about its tokens, if it does."""
    tokens = tokens_in(answer)
    if tokens is not None:
        attempt.prompt_tokens, attempt.completion_tokens = tokens
