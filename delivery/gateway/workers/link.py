"""What the fleet and one of its workers tell each other: calls both ways over one socket, a line of JSON each.

The socket is a pair's end that the worker inherits: nobody else can connect, and each side sees at once that the other
is gone. Calls arrive in the order in which they were sent.
"""

import asyncio
import inspect
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

log = logging.getLogger("slipway.gateway")
LINE_LIMIT = 256 * 1024 * 1024  # bytes: a page of records, a table
CallHandler = Callable[[Any], Any | Awaitable[Any]]


class LinkError(Exception):
    """The other side is gone, did not answer in time, or could not do what it was asked."""


class Link:
    """One side. A handler that is a plain function is done before the next call is read; a coroutine runs beside."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Mapping[str, CallHandler]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_open = True

    async def call(self, name: str, content: Any, timeout_s: float) -> Any:
        """What the other side's handler of this name returns. Raises LinkError."""
        if not self.is_open:
            raise LinkError("the other side is gone")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send({"call": number, "name": name, "content": content})
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise LinkError(f"no answer to `{name}` within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)

    def tell(self, name: str, content: Any) -> None:
        """Calls without waiting for an answer."""
        self._send({"call": next(self._numbers), "name": name, "content": content})

    async def run(self) -> None:
        """Takes calls and answers until the other side is gone."""
        try:
            while line := await self._reader.readline():
                self._take(orjson.loads(line))
        except (ConnectionError, orjson.JSONDecodeError) as error:  # half a line: it was killed while it wrote
            log.debug("the link broke off", extra={"cause": str(error)})
        except Exception:
            log.exception("the link between gateway processes cannot go on")
        finally:
            self.close()

    def close(self) -> None:
        """Whoever waits for an answer learns that there will be none."""
        self.is_open = False
        self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkError("the other side is gone"))

    def _take(self, message: dict[str, Any]) -> None:
        if "name" not in message:
            answer = self._waiting.get(message["answer"])
            if answer is not None and not answer.done():
                if "error" in message:
                    answer.set_exception(LinkError(message["error"]))
                else:
                    answer.set_result(message["content"])
            return
        try:
            done = self._handlers[message["name"]](message["content"])
            if not inspect.isawaitable(done):
                self._send({"answer": message["call"], "content": done})
                return
        except Exception as error:  # noqa: BLE001 - the caller is told
            self._failed(message, error)
            return
        task = asyncio.ensure_future(self._finish(message, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, message: dict[str, Any], work: Awaitable[Any]) -> None:
        try:
            self._send({"answer": message["call"], "content": await work})
        except Exception as error:  # noqa: BLE001 - the caller is told
            self._failed(message, error)

    def _failed(self, message: dict[str, Any], error: Exception) -> None:
        log.error("a call between gateway processes failed", extra={"call": message["name"]}, exc_info=error)
        self._send({"answer": message["call"], "error": f"{type(error).__name__}: {error}"})

    def _send(self, message: dict[str, Any]) -> None:
        if self.is_open:
            self._writer.write(orjson.dumps(message) + b"\n")


async def linked(end: socket.socket, handlers: Mapping[str, CallHandler]) -> Link:
    """This end of a socket pair as a link; its `run` must be started."""
    reader, writer = await asyncio.open_unix_connection(sock=end, limit=LINE_LIMIT)
    return Link(reader, writer, handlers)
