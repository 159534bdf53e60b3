"""A file that a person edits, served as it changes. A broken edit is reported, and the last good state stays.

Whatever a file does to the code that reads it, it is watched on: the next edit may take a key away.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from configs.errors import ConfigError

log = logging.getLogger("slipway.gateway")
T = TypeVar("T")


class Watch(Generic[T]):
    """`read` makes something of the file, or raises ConfigError; `serve` takes it."""

    def __init__(self, path: Path, read: Callable[[Path], T], serve: Callable[[T], None]):
        self._path = path
        self._read = read
        self._serve = serve
        self._seen: Any = None

    def look(self) -> None:
        """Reads the file if it changed. Raises ConfigError if it cannot be served."""
        try:
            stat = self._path.stat()
            mark: Any = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            mark = "absent"
        if mark != self._seen:
            self._seen = mark
            self._serve(self._read(self._path))

    async def run(self, every_s: float = 0.5) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                self.look()
            except ConfigError as error:
                log.error("all stays as it was", extra={"file": str(self._path), "cause": error.render()})
            except Exception:
                log.exception(
                    "an edit broke the gateway's own code; all stays as it was", extra={"file": str(self._path)}
                )
