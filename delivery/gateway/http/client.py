"""HTTP/1.1 towards the replicas, as little of it as a gateway needs: one connection, whose answers llhttp reads.

A general client costs more time per request than all the rest of the gateway together; `benchmarks.gateway` shows it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import cast

import httptools

from delivery.gateway.http.upstream_answer import AnswerTooLargeError, BrokenOffError, UnreachableError, UpstreamAnswer

HEAD_LIMIT = 64 * 1024  # bytes before the body


class Connection(asyncio.Protocol):
    """One connection: at most one answer under way. `put_by` takes it where it waits between two."""

    def __init__(self, put_by: "Callable[[Connection], None]"):
        self._put_by = put_by
        self._transport: asyncio.Transport
        self._answer: UpstreamAnswer | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._is_counted = False  # the head says where the body ends
        self._head_bytes = 0
        self._is_paused = False
        self.since = 0.0  # when it was last put by, monotonic seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @property
    def is_open(self) -> bool:
        """Whether something can still be sent."""
        return not self._transport.is_closing()

    def send(self, request: bytes) -> UpstreamAnswer:
        """Sends a whole request."""
        self._answer = answer = UpstreamAnswer(self)
        self._head_bytes = 0
        self._transport.write(request)
        return answer

    def abort(self) -> None:
        """Ends it at once."""
        self._transport.abort()

    def flow(self) -> None:
        """The reader has room again."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nobody asked
            self._transport.abort()
            return
        if not answer.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(BrokenOffError(answer.status))
            return
        if not answer.status and self._head_bytes > HEAD_LIMIT:
            self._fail(BrokenOffError(0))

    def _fail(self, failure: Exception) -> None:
        answer, self._answer = self._answer, None
        self._transport.abort()
        if answer is not None:
            answer.ended(failure)

    def on_message_begin(self) -> None:
        self._is_counted = False
        if self._answer is None:  # a second answer to one question
            self._transport.abort()

    def on_header(self, name: bytes, _: bytes) -> None:
        if len(name) in (14, 17) and name.lower() in (b"content-length", b"transfer-encoding"):
            self._is_counted = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._answer is not None and status >= 200:
            self._answer.begun(status)

    def on_body(self, data: bytes) -> None:
        try:
            is_full = self._answer is not None and self._answer.add(data)
        except AnswerTooLargeError as error:
            self._fail(error)
            return
        if is_full and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not answer.status:  # 100 Continue
            return
        self._answer = None
        self.flow()
        if self._parser.should_keep_alive() and not self._transport.get_write_buffer_size() and self.is_open:
            self.since = time.monotonic()
            self._put_by(self)
        else:
            self._transport.close()
        answer.ended()

    def connection_lost(self, error: Exception | None) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if not answer.status:
            answer.ended(UnreachableError(str(error or "closed")))
        elif error is None and not self._is_counted:  # then the end of the connection is the end of the body
            answer.ended()
        else:
            answer.ended(BrokenOffError(answer.status))
