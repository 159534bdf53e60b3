"""What API keys have spent, kept on disk so that a restart gives nobody a second budget.

It is written every few seconds: a killed gateway forgets what was spent since. A file that cannot be understood is
reported and set aside, and budgets are full then: one budget too many does less harm than a day without any answer for
everybody. A clock that was set back refills nothing.
"""

import asyncio
import contextlib
import logging
import math
import time
from pathlib import Path
from typing import Any

import orjson

from configs.errors import SlipwayError
from delivery.gateway.keys.access import Keys, Spent
from delivery.gateway.table.files import replace_file, set_aside
from delivery.gateway.table.served import Clock

log = logging.getLogger("slipway.gateway")
EVERY_S = 2.0


class BudgetFile:
    """The file of one gateway, or of one fleet of workers."""

    def __init__(self, path: Path, keys: Keys, wall: Clock = time.time):
        self._path = path
        self._keys = keys
        self._wall = wall
        self._written: Spent | None = None

    def restore(self) -> None:
        """Takes up what was kept. Raises SlipwayError if the file cannot be read at all."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise SlipwayError(f"the kept budgets cannot be read: {error.strerror}", where=str(self._path)) from None
        try:
            at, spent = parse_spent(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = set_aside(self._path)
            log.error(
                "the kept budgets are unreadable; all API keys have their full budgets",
                extra={"cause": str(error), "kept": str(aside)},
            )
            return
        self._keys.restore(spent, max(0.0, self._wall() - at))

    async def run(self, every_s: float = EVERY_S) -> None:
        """Writes until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.write()
            except Exception:
                log.exception("what API keys have spent could not be kept")

    async def write(self) -> None:
        """Writes what is spent now. A disk that is full is reported, and requests go on."""
        spent = self._keys.spent()
        if spent == self._written:
            return
        data = orjson.dumps({"at": self._wall(), "spent": spent}, option=orjson.OPT_INDENT_2)
        try:
            await asyncio.to_thread(replace_file, self._path, data)
        except OSError as error:
            log.error("what API keys have spent could not be kept", extra={"cause": str(error)})
        else:
            self._written = spent


def kept_budgets(stack: contextlib.AsyncExitStack, file: BudgetFile) -> None:
    """Restores the budgets, keeps them while the stack lasts, and writes them once more at its end."""
    file.restore()
    writing = asyncio.create_task(file.run())

    async def last() -> None:
        writing.cancel()
        await asyncio.wait([writing])
        await file.write()

    stack.push_async_callback(last)


def parse_spent(raw: bytes) -> tuple[float, Spent]:
    """(UNIX seconds of the writing, what was spent then). Raises ValueError, KeyError, TypeError or AttributeError."""
    data = orjson.loads(raw)
    found = {str(n): {str(k): _amount(v) for k, v in limits.items()} for n, limits in data["spent"].items()}
    return _amount(data["at"]), found


def _amount(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is no amount")
    return number
