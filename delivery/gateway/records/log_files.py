"""Rows into parquet files that are whole or not there: written under a hidden name, renamed when they are closed.

A kill loses the open file and nothing else; its remains are removed at the next start. Sizes and ages are bounded.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
from pyarrow import parquet

from configs.traffic_log import TrafficLog
from delivery.gateway.table.files import for_the_owner
from delivery.traffic.columns import COLUMNS, CONTRACT

log = logging.getLogger("slipway.gateway")
MIB = 1024 * 1024
DAY_S = 86_400
ROWS_AT_ONCE = 5_000  # a row group
TEXT_AT_ONCE = 16 * MIB  # characters waiting for one
TYPES = {
    "text": pyarrow.string(),
    "time": pyarrow.timestamp("us", tz="UTC"),
    "number": pyarrow.float64(),
    "whole": pyarrow.int32(),
    "flag": pyarrow.bool_(),
}
TEXTS = ("prompt", "answer", "comment")
MISFITS = (pyarrow.ArrowException, OverflowError, TypeError, ValueError)
LogRow = dict[str, Any]  # by column; times are UNIX seconds


class LogFiles:
    """One writer's files in a folder. Raises OSError or pyarrow.ArrowException: `abandon` what is unsaved then."""

    def __init__(self, folder: Path, limits: TrafficLog, name: str):
        self._folder = folder
        self._limits = limits
        self._name = name
        self.lost = 0  # rows that no file will ever hold
        self._count = 0
        self._rows: list[LogRow] = []  # in hand
        self._in_file = 0  # rows that the open file holds
        self._text = 0
        self._detectors: frozenset[str] = frozenset()
        self._file: BinaryIO | None = None
        self._writer: Any = None
        self._part = folder
        self._since = 0.0  # of the oldest row that no closed file holds

    def start(self) -> None:
        """Makes the folder, and removes what killed writers left open."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self._folder.glob(".traffic-*.part"):
            with contextlib.suppress(BlockingIOError, FileNotFoundError), part.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
                log.warning("removed what a killed gateway had not closed", extra={"file": str(part)})

    def write(self, rows: Iterable[LogRow], now: float) -> None:
        """Takes rows in; they are on disk under a final name when their file is closed. `now`: UNIX seconds.

        A row that does not fit its columns is lost alone.
        """
        for row in rows:
            if self._file is None and not self._rows:
                self._since = now
            self._rows.append(row)
            self._text += sum(len(row.get(name) or "") for name in TEXTS)
            if len(self._rows) >= ROWS_AT_ONCE or self._text >= TEXT_AT_ONCE:
                self._write_group(now)
        self.rotate(now)

    def rotate(self, now: float) -> None:
        """Closes a file that has become old or large."""
        if self._file is None and not self._rows:
            return
        is_old = not 0 <= now - self._since < self._limits.max_file_age_s
        if is_old or (self._file is not None and self._file.tell() >= self._limits.max_file_mib * MIB):
            self.close(now)

    def close(self, now: float) -> None:
        """Gives the open file its final name, and removes what is beyond the limits."""
        self._write_group(now)
        self._close_file(now)

    def _close_file(self, now: float) -> None:
        if self._file is None or self._writer is None:
            return
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._part, self._part.with_name(self._part.name.removeprefix(".").removesuffix(".part")))
        self._file.close()
        self._file = self._writer = None
        self._in_file = 0
        self._tidy(now)

    def abandon(self) -> None:
        """Gives up the open file and the rows in hand, which are lost."""
        self.lost += len(self._rows) + self._in_file
        self._rows, self._text, self._in_file = [], 0, 0
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(FileNotFoundError):
                self._part.unlink()
        self._file = self._writer = None

    def _write_group(self, now: float) -> None:
        if not self._rows:
            return
        found = {name for row in self._rows for name in row if name.startswith(CONTRACT)}
        if not found <= self._detectors:  # a file has one schema
            self._close_file(now)
            self._detectors |= found
        if self._writer is None:
            self._open(now)
        self._writer.write_table(self._table(self._writer.schema))
        self._in_file += len(self._rows)
        self._rows, self._text = [], 0

    def _table(self, schema: Any) -> Any:
        """The rows in hand, without those that fit no column (a count beyond all measure)."""
        try:
            return _table(self._rows, schema)
        except MISFITS as error:
            fitting = [row for row in self._rows if _fits(row, schema)]
            lost = len(self._rows) - len(fitting)
            log.error("rows that cannot be written are lost", extra={"rows": lost, "cause": str(error)})
            self._rows = fitting
            self.lost += lost
            return _table(fitting, schema)

    def _open(self, now: float) -> None:
        began = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
        self._count += 1
        self._part = self._folder / f".traffic-{began}-{self._name}-{self._count:06d}.parquet.part"
        self._file = _locked(self._part)
        self._writer = parquet.ParquetWriter(self._file, schema_with(self._detectors), compression="zstd")

    def _tidy(self, now: float) -> None:
        files = [(stat, path) for path in self._folder.glob("traffic-*.parquet") if (stat := _stat(path)) is not None]
        kept = 0
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
            kept += stat.st_size
            if kept > self._limits.max_total_mib * MIB or now - stat.st_mtime > self._limits.max_age_days * DAY_S:
                path.unlink(missing_ok=True)


def _locked(part: Path) -> BinaryIO:
    """A new file under this name, locked. A writer that starts just now may have removed it before it was locked."""
    while True:
        file = open(part, "xb", opener=for_the_owner)  # noqa: SIM115 - closed with the parquet file
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _stat(path: Path) -> os.stat_result | None:
    """None if it is gone: another writer keeps the folder within its limits too."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def schema_with(detectors: Iterable[str]) -> Any:
    """The parquet schema: the fixed columns, then a flag for each detector."""
    fixed = [(column.name, TYPES[column.kind]) for column in COLUMNS]
    return pyarrow.schema([*fixed, *((name, TYPES["flag"]) for name in sorted(detectors))])


def _fits(row: LogRow, schema: Any) -> bool:
    try:
        _table([row], schema)
    except MISFITS:
        return False
    return True


def _table(rows: Sequence[LogRow], schema: Any) -> Any:
    columns = []
    for column in schema:
        values = [row.get(column.name) for row in rows]
        if pyarrow.types.is_timestamp(column.type):
            values = [None if value is None else round(value * 1e6) for value in values]
        columns.append(pyarrow.array(values, column.type))
    return pyarrow.table(columns, schema=schema)
