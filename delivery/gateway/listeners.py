"""A port that is listened on, and left without cutting anybody short.

Where several processes share a port, the kernel gives every connection to one of them before that process knows. What
it has given to a process that then stops listening is reset, so whoever stops lets these in first.
"""

import asyncio
import contextlib
import errno
import os
import socket
import time
from dataclasses import dataclass

from aiohttp import web

from configs.errors import SlipwayError

CONNECTIONS_WAITING = 1024


@dataclass(frozen=True)
class Listener:
    """One that is open. `port` is the true one where any free one was asked for."""

    server: asyncio.Server
    runner: web.AppRunner
    port: int

    async def stop(self) -> None:
        """Listens no longer. Whoever the kernel has connected already is let in."""
        waiting = [socket.socket(fileno=os.dup(one.fileno())) for one in self.server.sockets]
        self.server.close()
        connected = [connection for one in waiting for connection in _accepted(one)]
        if self.runner.server is not None:
            for connection in connected:
                await asyncio.get_running_loop().connect_accepted_socket(self.runner.server, connection)

    @property
    def has_connections(self) -> bool:
        """Whether a client is connected; it may be sending its next request just now."""
        return self.runner.server is not None and bool(self.runner.server.connections)


@dataclass(frozen=True)
class Address:
    """Where to listen, and which flag says so. `is_shared`: the port is other processes' of this machine too."""

    host: str
    port: int
    flag: str
    idle_s: float
    is_shared: bool = False


async def listen(stack: contextlib.AsyncExitStack, app: web.Application, where: Address) -> Listener:
    """Opens a listener; it is closed with the stack. Raises SlipwayError."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        shutdown_timeout=0.02,
        keepalive_timeout=where.idle_s,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None  # noqa: S101 - set up above
    try:
        server = await asyncio.get_running_loop().create_server(
            runner.server,
            where.host,
            where.port,
            backlog=CONNECTIONS_WAITING,
            reuse_port=True if where.is_shared else None,
        )
    except OSError as error:
        place = f"{where.host}:{where.port}"
        if error.errno == errno.EADDRINUSE:
            cure = f"choose another one with {where.flag}, or stop what listens there"
            raise SlipwayError(f"port {where.port} on {where.host} is in use", cure=cure) from None
        raise SlipwayError(f"cannot listen on {place}: {error.strerror or error}", cure=f"see {where.flag}") from None
    stack.callback(server.close)
    return Listener(server, runner, int(server.sockets[0].getsockname()[1]))


def _accepted(listening: socket.socket) -> list[socket.socket]:
    """Every connection that waits to be accepted; then the socket is closed, with nothing in between."""
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
