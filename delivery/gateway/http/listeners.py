"""Ports that are listened on, and left without cutting anybody short."""

import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from configs.errors import SlipwayError


@dataclass(frozen=True)
class Address:
    """Where to listen, and which flag says so."""

    host: str
    port: int
    flag: str
    idle_s: float


async def listen(stack: contextlib.AsyncExitStack, app: web.Application, where: Address) -> int:
    """Opens a listener, and closes it with the stack; the port. Raises SlipwayError."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.02, keepalive_timeout=where.idle_s)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    with telling_why(where.host, where.port, where.flag):
        await web.TCPSite(runner, where.host, where.port).start()
    return int(runner.addresses[0][1])


@contextlib.contextmanager
def telling_why(host: str, port: int, flag: str) -> Iterator[None]:
    """Raises SlipwayError for the OSError of a port that cannot be listened on."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            cure = f"choose another one with {flag}, or stop what listens there"
            raise SlipwayError(f"port {port} on {host} is in use", cure=cure) from None
        raise SlipwayError(f"cannot listen on {host}:{port}: {error.strerror or error}", cure=f"see {flag}") from None


def accept_waiting(listening: socket.socket) -> list[socket.socket]:
    """Every connection that waits to be accepted; then the socket is closed, with nothing in between.

    Where several processes share a port, the kernel gives every connection to one of them before that process knows.
    What it has given to a process that then stops listening is reset, so whoever stops lets these in first.
    """
    listening.setblocking(False)
    found = []
    while True:
        try:
            found.append(listening.accept()[0])
        except ConnectionAbortedError:
            continue  # gone while it waited; the next one may not be
        except OSError:  # nobody waits any more, or there is no descriptor left to accept with
            listening.close()
            return found


class Quiet:
    """Whether nothing has happened for a while, by the monotonic clock."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._since = time.monotonic()

    def lasts(self, busy: bool) -> bool:
        """Call it again and again: True once nobody was busy for so long."""
        now = time.monotonic()
        if busy:
            self._since = now
        return now - self._since >= self._seconds
