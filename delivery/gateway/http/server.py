"""The users' listener: who is connected, and for how long when nothing happens."""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from delivery.gateway.http.connection import ClientConnection
from delivery.gateway.http.listeners import accept_waiting
from delivery.gateway.http.messages import Request, Response
from delivery.gateway.openai.errors import ApiError
from delivery.gateway.seldom import Seldom

WRITE_TIMEOUT_S = 60.0  # for a client that reads nothing at all of a plain answer
CANCEL_S = 1.0  # for handlers to come to their end when the server closes
CONNECTIONS_WAITING = 1024
Handler = Callable[[Request], Awaitable[Response | None]]  # None: it has sent its answer itself


class HttpServer:
    """A listener for users. `handle` answers each request; it is cancelled when its client goes.

    `refused` is told of the errors with which the listener itself answers.
    """

    def __init__(
        self,
        handle: Handler,
        max_body_bytes: int,
        idle_s: float,
        refused: Callable[[ApiError], None] = lambda _: None,
        write_timeout_s: float = WRITE_TIMEOUT_S,
        max_connections: int = 8192,
        max_held_bytes: int = 256 * 1024 * 1024,
    ):
        self.handle = handle
        self.refused = refused
        self.max_body_bytes = max_body_bytes
        self.connections: set[ClientConnection] = set()
        self.date = ""
        self.write_timeout_s = write_timeout_s
        self.held_bytes = 0  # of bodies
        self.max_held_bytes = max_held_bytes
        self._max_connections = max_connections
        self._full = Seldom("clients have as many connections as may be; those that wait the longest are closed")
        self._idle_s = idle_s
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    def let_in(self, connection: ClientConnection) -> None:
        """A client has connected. Where there are too many, those go that wait for a request of the one with most."""
        self.connections.add(connection)
        if len(self.connections) <= self._max_connections:
            return
        by_peer = Counter(one.peer for one in self.connections)
        waiting = [one for one in self.connections if one.is_waiting and one is not connection] or [connection]
        waiting.sort(key=lambda one: (-by_peer[one.peer], one.waits_since))
        leaving = waiting[: 1 + self._max_connections // 50]
        self._full.warn(connections=len(self.connections), closed=len(leaving), address=leaving[0].peer)
        for one in leaving:
            one.abort()
            self.connections.discard(one)

    async def start(self, host: str, port: int, *, is_shared: bool) -> int:
        """Listens; the port. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self), host, port, backlog=CONNECTIONS_WAITING, reuse_port=is_shared or None
        )
        self._look_around()
        return int(self._server.sockets[0].getsockname()[1])

    async def stop_accepting(self) -> None:
        """Listens no longer. Whoever the kernel has connected already is let in."""
        server, self._server = self._server, None
        if server is None:
            return
        waiting = [socket.socket(fileno=os.dup(one.fileno())) for one in server.sockets]
        server.close()
        for connected in [connection for one in waiting for connection in accept_waiting(one)]:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: ClientConnection(self), connected)

    def is_busy(self) -> bool:
        """Whether a client is still sending a request, waits for its answer or is still reading it."""
        return any(connection.is_busy for connection in self.connections)

    async def close(self) -> None:
        """Ends every connection; answers that are under way are broken off."""
        await self.stop_accepting()
        if self._sweep is not None:
            self._sweep.cancel()
        tasks = [task for connection in self.connections if (task := connection.leave()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_S)

    def _look_around(self) -> None:
        """Closes connections on which nothing happens, and sets the date of all answers."""
        self._sweep = asyncio.get_running_loop().call_later(min(0.5, self._idle_s / 2), self._look_around)
        now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\nServer: slipway\r\n"
        for connection in [one for one in self.connections if one.is_idle(now, self._idle_s)]:
            connection.abort()
