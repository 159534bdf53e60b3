"""HTTP/1.1 for users, as little of it as a gateway needs: llhttp reads the requests, the limits are kept here.

A general server costs more time per request than the gateway's own work; `benchmarks.gateway` shows it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import httptools

from delivery.gateway.http.messages import BodyBrokenError, NoRoomError, Request, Response
from delivery.gateway.http.strictness import ONLY_ONE, TWO_BLANKS, is_faulty
from delivery.gateway.openai.errors import ApiError, server_error

if TYPE_CHECKING:
    from delivery.gateway.http.server import HttpServer

log = logging.getLogger("slipway.gateway")
HEAD_LIMIT = 16 * 1024  # bytes of a request's line and headers
HEADERS_LIMIT = 128
PIPELINE_LIMIT = 256  # requests that wait for the answer before theirs; nobody looks at what a client sends beyond that
AHEAD_LIMIT = 64 * 1024  # bytes of them, about; then they wait in the kernel, and nobody sees their client leave
LINGER_S = 2.0  # for what a client is still sending when it has got its answer
INVALID = 400, "This is no valid HTTP request.", "invalid_http"
TOO_LONG = 431, "The request's head is too long.", "head_too_large"
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
USUAL_NAMES = """
    Host User-Agent Accept Accept-Encoding Accept-Language Authorization Connection Content-Length Content-Type
    Transfer-Encoding Expect X-Request-Id
"""
NAMES = {form.encode(): name.lower() for name in USUAL_NAMES.split() for form in (name, name.lower())}


class ClientConnection(asyncio.Protocol):
    """One client's connection: its requests are answered one after the other, in their order."""

    def __init__(self, server: "HttpServer"):
        self._server = server
        self._transport: asyncio.Transport
        self.peer = ""
        self.waits_since = 0.0  # monotonic seconds: connected, or answered last
        self._parser = httptools.HttpRequestParser(self)
        self._reading: Request | None = None  # the last one that has begun to come
        self._is_getting_on = False  # the data at hand completes a head, or has a part of a body
        self._in_head = True  # what comes next belongs to a head
        self._head_bytes = 0  # of its parts that are complete
        self._fed_bytes = 0  # that have come since without completing it, or stand behind a body
        self._ahead_bytes = 0  # of requests that wait for the answer before theirs
        self._is_doubled = False  # a header stands there twice that may stand there once
        self._fresh = 0  # requests whose heads the data at hand completed
        self._is_repeating = False  # another parser is told where the body ends
        self._is_deaf = False  # what comes is not looked at any more
        self._is_paused = False  # what comes waits in the kernel
        self._waiting: deque[Request] = deque()
        self._answering: Request | None = None
        self._closes = False  # the answer under way is the last one
        self._task: asyncio.Task[None] | None = None  # one for all its requests: one for each costs too much
        self._idle: asyncio.Future[None] | None = None  # what it waits for when there is nothing to answer
        self._quiet_since: float | None = None  # monotonic seconds; None while an answer is made
        self._unread = 0  # bytes of answers, when this was last looked at
        self.must_wait: asyncio.Future[None] | None = None

    # What the event loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._quiet_since = time.monotonic()
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        self.waits_since = self._quiet_since
        self._server.let_in(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        for request in (*self._waiting, self._reading, self._answering):
            self._release(request)
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.must_wait = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self.must_wait is not None and not self.must_wait.done():
            self.must_wait.set_result(None)
        self.must_wait = None

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._is_getting_on = False
        if self._reading is None and b"  " in data and TWO_BLANKS.match(data):
            self._misread()
            return
        self._fresh = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._misread()
            return
        if self._is_getting_on:
            self._fed_bytes = 0
        elif self._reading is not None:  # nothing but a part of a head, or of what stands behind a body
            self._fed_bytes += len(data)
            if self._fed_bytes > HEAD_LIMIT:
                self._misread(*TOO_LONG)
        if self._waiting and self._answering is not None:
            self._ahead_bytes += len(data)
            if self._ahead_bytes > AHEAD_LIMIT and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()

    def _stay_with_http(self, rest: bytes) -> None:
        """There is nothing to upgrade to. Java's client asks all the same, and llhttp then leaves the body unread."""
        framing = [f"{name}: {value}\r\n" for name, value in self._framing().items()]
        self._parser = httptools.HttpRequestParser(self)
        if self._is_deaf:
            return
        self._is_repeating = True
        self._parser.feed_data(f"POST / HTTP/1.1\r\n{''.join(framing)}\r\n".encode("latin-1"))
        self._is_repeating = False
        self.data_received(rest)

    def _framing(self) -> dict[str, str]:
        headers = self._reading.headers if self._reading is not None else {}
        return {name: headers[name] for name in ("content-length", "transfer-encoding") if name in headers}

    # What the parser says

    def on_message_begin(self) -> None:
        if self._is_repeating:
            return
        self._reading = Request(self)
        self._in_head, self._head_bytes, self._fed_bytes, self._is_doubled = True, 0, 0, False

    def on_url(self, url: bytes) -> None:
        if self._reading is not None and not self._is_repeating:
            self._reading.target += url
            self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_repeating or not self._in_head:  # what a trailer says counts for nothing
            return
        self._head_bytes += len(name) + len(value)
        if self._reading is not None and self._head_bytes <= HEAD_LIMIT:
            text = value.decode("utf-8", "surrogateescape")
            known, headers = NAMES.get(name) or name.decode("latin-1").lower(), self._reading.headers
            if known not in headers:
                headers[known] = text
            elif known in ONLY_ONE:
                self._is_doubled = True

    def on_headers_complete(self) -> None:
        request = self._reading
        if request is None or self._is_deaf or self._is_repeating:
            return
        self._in_head, self._is_getting_on = False, True
        if len(self._waiting) >= PIPELINE_LIMIT:
            self._is_deaf, self._waiting[-1].closes = True, True
            return
        if self._head_bytes > HEAD_LIMIT or len(request.headers) > HEADERS_LIMIT:
            self._refuse(*TOO_LONG)
            return
        version, request.method = self._parser.get_http_version(), self._parser.get_method().decode("latin-1")
        request.speaks_chunks = version == "1.1"
        if self._is_doubled or is_faulty(request.method, request.target, version, request.headers):
            self._refuse(*INVALID)
            return
        request.closes = not self._parser.should_keep_alive()
        request.expect(self._server.max_body_bytes)
        self._enqueue(request)

    def on_body(self, data: bytes) -> None:
        self._is_getting_on = True
        request, server = self._reading, self._server
        if request is None or request.held < 0:
            return
        request.held += len(data)
        server.held_bytes += len(data)
        request.add(data, server.max_body_bytes)
        if server.held_bytes > server.max_held_bytes:
            request.fail(NoRoomError)

    def _release(self, request: Request | None) -> None:
        """What it holds from now on is no longer accounted for: it has been answered, or never will be."""
        if request is not None and request.held >= 0:
            self._server.held_bytes -= request.held
            request.held = -1

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():  # not complete at all
            return
        if self._reading is not None:
            self._reading.end()
            self._reading = None
        self._in_head = True

    # One request after the other

    def _misread(self, status: int = 400, message: str = INVALID[1], code: str = INVALID[2]) -> None:
        """What came is no HTTP. With it go the requests that came in the same bytes: who knows where they end."""
        if self._reading is not None and not self._in_head:  # it is being answered, or waits for that
            self._is_deaf = True
            self._reading.fail(BodyBrokenError)
        elif self._reading is None and self._waiting and self._waiting[-1].closes:  # what stands behind the last one
            self._is_deaf = True
        else:
            for _ in range(min(self._fresh, len(self._waiting))):
                self._waiting.pop()
            self._refuse(status, message, code)

    def _refuse(self, status: int, message: str, code: str) -> None:
        self._is_deaf = True
        request = Request(self)
        request.refusal = self._refusal(ApiError(status, message, code=code))
        self._enqueue(request)

    def _refusal(self, error: ApiError) -> Response:
        self._server.refused(error)
        return error.response()

    def _enqueue(self, request: Request) -> None:
        self._waiting.append(request)
        self._fresh += 1
        if self._answering is None and len(self._waiting) == 1:
            self._wake()

    def _wake(self) -> None:
        self._quiet_since = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer_all())
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _listen(self) -> None:
        self._ahead_bytes = 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    async def _answer_all(self) -> None:
        while True:
            request = self._answering = self._waiting.popleft()
            if not self._waiting:
                self._listen()
            goes_on = await self._answer(request)
            self._answering = None
            self._release(request)
            if self._waiting and goes_on:
                continue
            self._quiet_since = self.waits_since = time.monotonic()
            if not goes_on:
                return
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    async def _answer(self, request: Request) -> bool:
        """Whether another request may follow."""
        try:
            response = request.refusal or await self._server.handle(request)
        except ConnectionResetError:
            self.abort()
            return False
        except Exception:
            log.exception("a request broke the gateway's own code", extra={"path": request.path})
            response = self._refusal(server_error(500, "The gateway failed.", "internal_error"))
        sending = request.sending
        if sending is None and response is not None:
            head = self.begin(response.status, response.headers, len(response.body))
            self._transport.write(head if request.method == "HEAD" else head + response.body)
            if self.must_wait is not None and not await self._has_room():
                self.abort()
                return False
        elif sending is None or not sending.is_ended:
            self.abort()
            return False
        if self._closes:
            self._end(is_read=request.is_whole and not self._is_deaf)
        return not self._closes

    async def _has_room(self) -> bool:
        """Waits while the client reads too slowly. False: for too long it has read nothing at all."""
        while (room := self.must_wait) is not None:
            unread = self._transport.get_write_buffer_size()
            await asyncio.wait([room], timeout=self._server.write_timeout_s)
            if not room.done() and self._transport.get_write_buffer_size() >= unread:
                return False
        return True

    def _end(self, *, is_read: bool) -> None:
        """No other answer follows. Closed with data unread, the connection would be reset, and the answer lost."""
        if is_read:
            self._transport.close()
            return
        self._is_deaf = True
        self._listen()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)

    # What answers need

    def begin(self, status: int, headers: Mapping[str, str], length: int | None) -> bytes:
        """An answer's head. `length`: of its body in bytes; None: it is sent bit by bit."""
        request = self._answering
        chunked = length is None and request is not None and request.speaks_chunks
        is_last = request is None or request.closes or not request.is_whole or (length is None and not chunked)
        self._closes = is_last or "Connection" in headers
        lines = [STATUS_LINES[status], self._server.date]
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        if request is not None and request.also:
            lines += [f"{name}: {value}\r\n" for name, value in request.also.items()]
        if is_last and "Connection" not in headers:
            lines.append("Connection: close\r\n")
        elif request is not None and not request.speaks_chunks:
            lines.append("Connection: keep-alive\r\n")
        if length is not None:
            lines.append(f"Content-Length: {length}\r\n\r\n")
        else:
            lines.append("Transfer-Encoding: chunked\r\n\r\n" if chunked else "\r\n")
        return "".join(lines).encode("utf-8", "surrogateescape")

    def write(self, data: bytes) -> None:
        """Sends it. Raises ConnectionResetError."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self._transport.write(data)

    def abort(self) -> None:
        """Ends it at once."""
        self._transport.abort()

    def is_idle(self, now: float, idle_s: float) -> bool:
        """Whether for so long no whole head has come, no answer was made, and nothing was read of what was sent."""
        if self._quiet_since is None or now - self._quiet_since < idle_s:
            return False
        unread = self._transport.get_write_buffer_size()
        if unread in (0, self._unread):
            return True
        self._unread, self._quiet_since = unread, now
        return False

    @property
    def is_waiting(self) -> bool:
        """Whether nobody has a whole request of this client's in hand."""
        return self._answering is None or not self._answering.is_whole

    @property
    def is_busy(self) -> bool:
        """Whether a request is coming or waits for its answer, or an answer has not left yet."""
        is_coming = self._reading is not None and not self._is_deaf
        is_asked = self._answering is not None or bool(self._waiting)
        return is_coming or is_asked or self._transport.get_write_buffer_size() > 0

    def leave(self) -> "asyncio.Task[None] | None":
        """Ends it in an orderly way; an answer that is under way is cancelled, and its task returned."""
        if self._answering is None:
            self._transport.close()
        else:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task
