"""How an answer goes to its user: whole, or bit by bit from its first content on."""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from delivery.gateway.http.messages import Request, Response
from delivery.gateway.openai.answers import UpstreamError
from delivery.gateway.openai.call import Call
from delivery.gateway.openai.errors import JSON_HEADERS, error_body
from delivery.gateway.openai.streams import Stream
from delivery.gateway.records.attempts import Attempt
from delivery.gateway.upstream.ask import Upstreams

log = logging.getLogger("slipway.gateway")
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
COMMENT = b": still at work\n\n"


@dataclass
class Sender:
    """Streams are asked for here, since what goes to the user before their first content depends on the wait."""

    upstreams: Upstreams
    keep_alive_s: float | None = None  # between two comments to a client that waits; None: it gets none
    write_timeout_s: float = 60.0
    is_draining: bool = False

    def plain(self, call: Call, attempt: Attempt, shown: bytes) -> Response:
        """An answer that is whole."""
        return Response(200, shown, {**JSON_HEADERS, **self._labels(call, attempt.variant)})

    async def streamed(self, http: Request, call: Call, attempt: Attempt) -> None:
        """Asks for a stream, and sends it. Raises UpstreamError as long as another attempt may follow."""
        first = self.upstreams.stream(call, call.route.variants[attempt.variant], attempt)
        stream = await (first if self.keep_alive_s is None else self._kept_alive(http, call, first))
        try:
            await self._relay(http, call, attempt, stream)
        finally:
            stream.close()

    async def _kept_alive(self, http: Request, call: Call, first: Awaitable[Stream]) -> Stream:
        """The stream once its first content is there; until then the client gets comments, which say nothing."""
        waiting = asyncio.ensure_future(first)
        try:
            while not (await asyncio.wait([waiting], timeout=self.keep_alive_s))[0]:
                sending = http.sending or http.stream({**STREAM_HEADERS, **self._labels(call, "")})
                try:
                    sending.write(COMMENT)
                except ConnectionResetError:
                    raise asyncio.CancelledError from None  # the client has gone
            return waiting.result()
        finally:
            waiting.cancel()

    async def _relay(self, http: Request, call: Call, attempt: Attempt, stream: Stream) -> None:
        """From the first content on nothing is retried: what breaks now, the user sees as an error frame."""
        sending = http.sending or http.stream({**STREAM_HEADERS, **self._labels(call, attempt.variant)})
        try:
            try:
                await stream.relay(sending, self.write_timeout_s)
            except UpstreamError as failure:
                attempt.fail(failure.kind)
                attempt.user_ok = False
                log.error("an answer broke off", extra=about(attempt, failure))
                sending.write(failure.answer + stream.error(_broken_off(failure), stream.next_number))
                await sending.room(self.write_timeout_s)
            sending.end()
        except ConnectionResetError:
            attempt.error = attempt.error or "client_closed"
        except TimeoutError:
            attempt.error = attempt.error or "client_stalled"
            sending.abort()

    def poor(self, http: Request, call: Call, attempt: Attempt, shown: bytes) -> Response | None:
        """An answer in which the model has nothing to say."""
        if not call.stream:
            return self.plain(call, attempt, shown)
        if http.sending is not None:
            http.sending.write(shown)
            http.sending.end()
            return None
        return Response(200, shown, {**STREAM_HEADERS, **self._labels(call, attempt.variant)})

    def _labels(self, call: Call, variant: str) -> dict[str, str]:
        labels = {"x-request-id": call.request_id, "x-slipway-request-id": call.request_id}
        if variant and call.route.policy.show_variant:
            labels["x-slipway-variant"] = variant
        if self.is_draining:
            labels["Connection"] = "close"
        return labels


def _broken_off(failure: UpstreamError) -> dict[str, dict[str, Any]]:
    message = "The answer broke off: the model failed after its first words."
    return error_body(message, kind="server_error", code=failure.kind, source="gateway")


def about(attempt: Attempt, failure: UpstreamError) -> dict[str, object]:
    """What a log says of an attempt that failed."""
    return {
        "request_id": attempt.request_id,
        "route": attempt.route,
        "variant": attempt.variant,
        "failure": failure.kind,
        "status": failure.status,
        "cause": failure.cause,
    }
