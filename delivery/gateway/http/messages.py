"""What users send and get, as the gateway's own code sees it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httptools


class BodyTooLargeError(Exception):
    """The body is announced as, or has become, larger than is accepted."""


class NoRoomError(Exception):
    """Bodies take as much memory as they may already."""


class BodyBrokenError(Exception):
    """The body could not be read to its end."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that is complete when it begins."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Outlet(Protocol):
    """A connection, as far as an answer needs it."""

    must_wait: asyncio.Future[None] | None  # until the client has read more
    peer: str  # the client's address

    def begin(self, status: int, headers: Mapping[str, str], length: int | None) -> bytes: ...  # noqa: D102
    def write(self, data: bytes) -> None: ...  # noqa: D102
    def abort(self) -> None: ...  # noqa: D102


class Request:
    """One request, from its head on. Names of headers are in lower case; of a repeated one the first counts."""

    __slots__ = (
        "_awaited",
        "_failure",
        "_outlet",
        "_parts",
        "_size",
        "also",
        "closes",
        "headers",
        "held",
        "is_whole",
        "method",
        "refusal",
        "sending",
        "speaks_chunks",
        "target",
    )

    def __init__(self, outlet: Outlet):
        self.method = ""
        self.target = b""
        self.headers: dict[str, str] = {}
        self.is_whole = False
        self.closes = False  # the client wants no other answer on this connection
        self.speaks_chunks = True
        self.refusal: Response | None = None  # what is wrong with its head
        self.sending: Sending | None = None
        self.also: Mapping[str, str] = {}  # headers of whatever answer it gets
        self.held = 0  # bytes of its body that are accounted for
        self._outlet = outlet
        self._parts: list[bytes] = []
        self._size = 0
        self._failure: type[Exception] | None = None
        self._awaited: asyncio.Future[None] | None = None

    @property
    def peer(self) -> str:
        """The address that it came from."""
        return self._outlet.peer

    @property
    def path(self) -> str:
        """The target's path as it was sent; of a whole URL its path."""
        target = self.target
        if not target.startswith(b"/"):
            try:
                target = httptools.parse_url(target).path or b""
            except httptools.HttpParserInvalidURLError:  # `*`, or what CONNECT asks for
                return ""
        return target.partition(b"?")[0].decode("latin-1")

    async def read(self) -> bytes:
        """The whole body, once. Raises BodyTooLargeError, BodyBrokenError, NoRoomError."""
        if not (self.is_whole or self._failure):
            if self.headers.get("expect", "").lower() == "100-continue":
                self._outlet.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._awaited = asyncio.get_running_loop().create_future()
            await self._awaited
        return self.content()

    def content(self) -> bytes:
        """What has come of the body since: all of it, once it `is_whole`.

        Raises BodyTooLargeError, BodyBrokenError, NoRoomError.
        """
        if self._failure is not None:
            raise self._failure
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def stream(self, headers: Mapping[str, str]) -> "Sending":
        """An answer (status 200) whose body follows bit by bit."""
        self.sending = Sending(self._outlet, headers, self.speaks_chunks)
        return self.sending

    def expect(self, limit: int) -> None:
        """The head is complete: what length does it announce?"""
        announced = self.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            self.fail(BodyTooLargeError)

    def add(self, data: bytes, limit: int) -> None:
        """A part of the body has come; it is not kept if it is too much."""
        self._size += len(data)
        if self._failure is None and self._size > limit:
            self.fail(BodyTooLargeError)
        if self._failure is None:
            self._parts.append(data)

    def fail(self, failure: type[Exception]) -> None:
        """The body is of no use."""
        self._failure = self._failure or failure
        self._parts.clear()
        self._arrived()

    def end(self) -> None:
        """The body is complete."""
        self.is_whole = True
        self._arrived()

    def _arrived(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)


class Sending:
    """An answer that is sent bit by bit. Its head goes out with the first of them."""

    __slots__ = ("_head", "_is_chunked", "_outlet", "is_ended")

    def __init__(self, outlet: Outlet, headers: Mapping[str, str], is_chunked: bool):
        self._outlet = outlet
        self._is_chunked = is_chunked
        self._head = outlet.begin(200, headers, None)
        self.is_ended = False

    def write(self, data: bytes) -> None:
        """Sends it; b"" would be the end of a chunked answer. Raises ConnectionResetError."""
        head, self._head = self._head, b""
        self._outlet.write(head + (b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data))

    @property
    def must_wait(self) -> bool:
        """Whether the client reads too slowly."""
        return self._outlet.must_wait is not None

    async def room(self, timeout_s: float) -> None:
        """Waits while the client reads too slowly. Raises TimeoutError."""
        if self._outlet.must_wait is not None:
            async with asyncio.timeout(timeout_s):
                await self._outlet.must_wait

    def end(self) -> None:
        """The answer is complete. Raises ConnectionResetError."""
        self._outlet.write(self._head + (b"0\r\n\r\n" if self._is_chunked else b""))
        self.is_ended = True

    def abort(self) -> None:
        """Breaks it off where it is."""
        self._outlet.abort()
