"""An upstream's event stream on its way to the client: read, renamed, and broken off where it breaks."""

import asyncio
from typing import Any, Protocol

import orjson

from configs.routing import Variant
from delivery.gateway.http.upstream_answer import BrokenOffError, UpstreamAnswer
from delivery.gateway.openai.answers import (
    CLIENTS_FAULT,
    Frames,
    UpstreamError,
    declined,
    error_in,
    parse_object,
    tokens_in,
)
from delivery.gateway.openai.call import Call
from delivery.gateway.records.attempts import Attempt

PREAMBLE_LIMIT = 1024 * 1024  # bytes before the first content
LAST_BYTES_S = 0.2  # between [DONE] and the end of the response
DONE = b"data: [DONE]\n\n"


class Sink(Protocol):
    """Where a stream goes. `must_wait`: it has no room just now; then `room` waits for that."""

    @property
    def must_wait(self) -> bool: ...  # noqa: D102
    def write(self, data: bytes) -> None: ...  # noqa: D102
    async def room(self, timeout_s: float) -> None: ...  # noqa: D102


class Stream:
    """One upstream event stream, turned into the client's: `start` it, then `relay` it."""

    done = DONE
    next_number = 0  # of an event, where they are numbered
    most_held = PREAMBLE_LIMIT

    def __init__(self, said: UpstreamAnswer, call: Call, variant: Variant, attempt: Attempt, idle_s: float):
        self._said = said
        self._call = call
        self._variant = variant
        self._attempt = attempt
        self._idle_s = idle_s
        self._frames = Frames()
        self._held = b""  # what came with the first content, until it is sent
        self._is_begun = False  # something has gone to the client
        self._has_content = False
        self._ended = False
        self._heard_at: float | None = None  # loop time; None while nobody waits for upstream
        self._watch: asyncio.TimerHandle | None = None  # one for the whole stream: one per chunk costs too much
        self._is_late = False

    @staticmethod
    def error(body: dict[str, dict[str, Any]], number: int = 0) -> bytes:
        """An error in a stream that has begun, and the stream's end. `number`: of the event, where they have one."""
        return b"data: " + orjson.dumps(body) + b"\n\n" + DONE

    def close(self) -> None:
        """Ends it upstream too, if it has not ended there."""
        if self._watch is not None:
            self._watch.cancel()
        if self._ended:
            self._said.close_after(LAST_BYTES_S)
        else:
            self._said.close()

    async def start(self) -> None:
        """Reads through the first content; what comes before it is held back with it. Raises UpstreamError."""
        while not (self._has_content or self._ended):
            data = await self._said.read_some()
            if not data:
                break
            self._held += self._shown(data)
            if len(self._held) > self.most_held:
                raise UpstreamError("malformed", 200)
        if not self._has_content and not self._attempt.says_nothing_by_force:
            raise UpstreamError("empty", 200, self._held + self.done if self._attempt.finish_reason else b"")

    async def relay(self, client: Sink, write_timeout_s: float) -> None:
        """Sends it to the client, to its end.

        Raises UpstreamError when the stream breaks, ConnectionResetError and TimeoutError when the client does.
        """
        loop = asyncio.get_running_loop()

        def take(data: bytes) -> bool:
            self._heard_at = loop.time()
            shown = self._shown(data)
            if self._ended:
                client.write(shown + self.done)
            elif shown:
                client.write(shown)
            return self._ended or client.must_wait

        self._is_begun = True
        client.write(self._held + self.done if self._ended else self._held)
        self._watch = loop.call_later(self._idle_s, self._look, loop)
        while not self._ended:
            await client.room(write_timeout_s)
            self._heard_at = loop.time()
            try:
                if not await self._said.pass_on(take):
                    self._end_without_done()
                    client.write(self.done)
            except BrokenOffError:
                if not self._ended:
                    raise UpstreamError("idle_timeout" if self._is_late else "midstream", 200) from None
            finally:
                self._heard_at = None
        await client.room(write_timeout_s)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        left = self._idle_s if self._heard_at is None else self._heard_at + self._idle_s - loop.time()
        if left > 0:
            self._watch = loop.call_later(left, self._look, loop)
        else:
            self._is_late = True
            self._said.give_up()

    def _end_without_done(self) -> None:
        if not self._attempt.finish_reason:
            raise UpstreamError("midstream", 200)
        self._ended = True

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
                if self._ended:
                    break
            elif self._is_begun:
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
        self._note(chunk)
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _note(self, chunk: dict[str, Any]) -> None:
        """What it says, for the records."""
        gist = self._call.endpoint.gist(chunk, True)
        if gist.has_content:
            self._has_content = True
            self._attempt.chunks += 1
        if gist.finish_reason:
            self._attempt.ended_by(gist)
        if gist.text and self._attempt.said is not None:
            self._attempt.said.add(gist.text)


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
