"""Connections to the replicas, kept from one request to the next."""

import asyncio
import errno
import os
import ssl
import time
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from delivery.gateway.http.client import Connection
from delivery.gateway.http.upstream_answer import ExhaustedError, UnreachableError, UpstreamAnswer

KEPT_S = 3.0  # less than the 5 s after which vLLM closes an idle connection
PORTS = {"http": 80, "https": 443}
NO_MORE_FILES = frozenset((errno.EMFILE, errno.ENFILE))


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where a base URL leads to. `prefix` is its path without the last slash."""

    host: str
    port: int
    is_tls: bool
    prefix: str
    named: str  # for the header Host


@lru_cache(maxsize=1024)
def origin_of(base_url: str) -> UpstreamAddress:
    """Raises ValueError on what is no http(s) URL."""
    parts = urlsplit(base_url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"{base_url!r} is no http or https URL")
    port = parts.port or PORTS[parts.scheme]
    named = parts.netloc.rpartition("@")[2]
    return UpstreamAddress(parts.hostname, port, parts.scheme == "https", parts.path.rstrip("/"), named)


class Connections:
    """Kept connections by base URL."""

    def __init__(self, connect_s: float, headers: str, kept_s: float = KEPT_S):
        self._connect_s = connect_s
        self._kept_s = kept_s
        self._headers = headers
        self._kept: dict[str, list[Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None

    @property
    def known(self) -> frozenset[str]:
        """The base URLs to which connections are kept, or were a moment ago."""
        return frozenset(self._kept)

    def close(self) -> None:
        """Ends all that are kept."""
        if self._sweep is not None:
            self._sweep.cancel()
        for kept in self._kept.values():
            for connection in kept:
                connection.abort()
        self._kept.clear()

    async def ask(
        self, method: str, base_url: str, path: str, body: bytes = b"", headers: str = "", *, to_the_end: bool
    ) -> UpstreamAnswer:
        """An answer whose head is there, or all of it.

        `headers`: lines that end with CRLF. A kept connection may meet its end just now: then another one is tried.
        Raises UnreachableError, BrokenOffError, ExhaustedError.
        """
        origin = origin_of(base_url)
        head = (
            f"{method} {origin.prefix}{path} HTTP/1.1\r\nHost: {origin.named}\r\n{self._headers}{headers}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode("latin-1") + body
        was_sent = False
        for is_last_try in (False, True):
            kept = None if is_last_try else self._idle(base_url)
            try:
                connection = kept or await self._connected(base_url, origin)
            except UnreachableError as error:
                raise UnreachableError(str(error), was_sent=was_sent) from None
            answer = connection.send(request)
            try:
                await (answer.whole() if to_the_end else answer.head())
            except UnreachableError as error:
                was_sent = True
                if kept is None:
                    raise UnreachableError(str(error), was_sent=True, is_lost=True) from None
            except BaseException:
                connection.abort()
                raise
            else:
                return answer
        raise AssertionError("the second try returns or raises")

    def _idle(self, base_url: str) -> Connection | None:
        kept = self._kept.get(base_url)
        oldest = time.monotonic() - self._kept_s
        while kept:
            connection = kept.pop()
            if connection.is_open and connection.since > oldest:
                return connection
            connection.abort()
        return None

    async def _connected(self, base_url: str, origin: UpstreamAddress) -> Connection:
        if origin.is_tls and self._tls is None:
            self._tls = ssl.create_default_context()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._kept_s, self._close_old)

        def put_by(connection: Connection) -> None:
            self._kept.setdefault(base_url, []).append(connection)

        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(put_by), origin.host, origin.port, ssl=self._tls if origin.is_tls else None
                )
        except (OSError, TimeoutError) as error:
            if _is_exhausted(error):
                raise ExhaustedError(str(error)) from None
            raise UnreachableError(str(error) or f"no connection within {self._connect_s:g} s") from None
        return connection

    def _close_old(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(self._kept_s, self._close_old)
        oldest = time.monotonic() - self._kept_s
        for base_url, kept in list(self._kept.items()):
            for connection in [one for one in kept if one.since <= oldest or not one.is_open]:
                kept.remove(connection)
                connection.abort()
            if not kept:  # it may be of a table that is served no more
                del self._kept[base_url]


def _is_exhausted(error: OSError) -> bool:
    """Whether this process, or the machine, has no descriptor left: looking up a name says then that there is none."""
    if error.errno in NO_MORE_FILES:
        return True
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as found:
        return found.errno in NO_MORE_FILES
    return False
