"""What a replica says, as it comes, for whoever reads it; and why it may say nothing, or not all."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delivery.gateway.http.client import Connection

HELD_LIMIT = 256 * 1024  # bytes of a stream that its reader has not taken yet; then upstream waits
ANSWER_LIMIT = 64 * 1024 * 1024  # bytes of an answer that is wanted whole


class UnreachableError(Exception):
    """There is no connection to this replica, or it ended before it answered.

    `was_sent`: the replica may have seen the request. `is_lost`: on a connection made for it, so that it has died of it
    or with it.
    """

    def __init__(self, cause: str, *, was_sent: bool = False, is_lost: bool = False):
        super().__init__(cause)
        self.was_sent = was_sent
        self.is_lost = is_lost


class BrokenOffError(Exception):
    """The connection ended in the middle of an answer, or what came is not HTTP. `status`: 0 before the head."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


class AnswerTooLargeError(BrokenOffError):
    """The answer is beyond ANSWER_LIMIT, and was given up."""


class ExhaustedError(Exception):
    """No connection could be made because this process, or the machine, has no descriptor left: no replica's fault."""


class UpstreamAnswer:
    """What a replica says, as it comes. Whoever asked for the head only reads on, or closes."""

    __slots__ = ("_connection", "_held", "_parts", "_take", "_waiter", "_wants", "failure", "is_whole", "status")

    def __init__(self, connection: "Connection"):
        self.status = 0
        self.is_whole = False
        self.failure: Exception | None = None
        self._connection = connection
        self._parts: list[bytes] = []
        self._held = 0
        self._wants = ""
        self._take: Callable[[bytes], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def head(self) -> Awaitable[None]:
        """Waits for the status, if it is not there. Raises UnreachableError or BrokenOffError."""
        return self._wait("head")

    def whole(self) -> Awaitable[None]:
        """Waits for the end. Raises UnreachableError or BrokenOffError."""
        self._connection.flow()
        return self._wait("end")

    async def read(self) -> bytes:
        """Everything that has not been read yet, to the end. Raises BrokenOffError."""
        await self.whole()
        return self.content()

    def content(self) -> bytes:
        """What has come and has not been read yet."""
        parts, self._parts, self._held = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_some(self) -> bytes:
        """What has come since; b"" at the end. Raises BrokenOffError once nothing good is left."""
        if not self._parts and not self.is_whole:
            await self._wait("body")
        data = self.content()
        self._connection.flow()
        return data

    async def pass_on(self, take: Callable[[bytes], bool]) -> bool:
        """Gives `take` what has come since, and then each part as it comes, until it says True: so does this then.

        False: the answer has ended. Raises what `take` raises, and BrokenOffError. To wake a task for each part of a
        stream would cost as much as all else that happens to it.
        """
        if self._parts and take(self.content()):
            return True
        self._connection.flow()
        if self.is_whole:
            return False
        self._take = take
        try:
            await self._wait("taken")
            return self._take is None
        finally:
            self._take = None

    def close(self) -> None:
        """Nobody reads on: the connection is of no further use, unless the answer has come to its end."""
        if not self.is_whole:
            self._connection.abort()

    def close_after(self, seconds: float) -> None:
        """Closes it then: what is left to come is its end, and the connection may be of use once that is there."""
        if not self.is_whole:
            asyncio.get_running_loop().call_later(seconds, self.close)

    def give_up(self) -> None:
        """Whoever reads gets BrokenOffError."""
        if not self.is_whole:
            self._connection.abort()
            self.ended(BrokenOffError(self.status))

    async def _wait(self, wants: str) -> None:
        if self.failure is None and not self.is_whole and not (wants == "head" and self.status):
            self._wants = wants
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.failure is not None and not (wants != "end" and self._parts):
            raise self.failure

    def _wake(self, event: str) -> None:
        if self._waiter is not None and (event in (self._wants, "end")) and not self._waiter.done():
            self._waiter.set_result(None)

    def begun(self, status: int) -> None:
        """The head has come."""
        self.status = status
        self._wake("head")

    def add(self, data: bytes) -> bool:
        """A part of the body has come. Whether that is more than should be held.

        Raises AnswerTooLargeError where there is nothing to wait for: all of it is wanted at once.
        """
        if self._take is not None:
            self._hand_over(self._take, data)
            return False
        self._parts.append(data)
        self._held += len(data)
        self._wake("body")
        if self._held <= HELD_LIMIT:
            return False
        if self._held > ANSWER_LIMIT and self._wants == "end":
            raise AnswerTooLargeError(self.status)
        return self._wants != "end"

    def _hand_over(self, take: Callable[[bytes], bool], data: bytes) -> None:
        try:
            if not take(data):
                return
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)
        self._take = None
        self._wake("taken")

    def ended(self, failure: Exception | None = None) -> None:
        """No more comes: the answer is whole, or has failed."""
        self.is_whole = failure is None
        self.failure = failure
        self._wake("end")
