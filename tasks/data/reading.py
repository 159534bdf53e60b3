"""Reads located sources row by row: the layout is told from the first rows, and a file that is no use is named."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from configs.canonical import digest_of
from configs.errors import Problem, SlipwayError
from delivery.build.dataset import SourceFile
from delivery.build.layouts.known import COLUMNS, recognise
from delivery.build.rows import RawRow
from tasks.data import hub
from tasks.data.formats.datafile import DataFile, FileRow
from tasks.data.formats.known import FORMATS
from tasks.data.sources import Located, file_digest

SHOWN = 5
LOOKED_AT = 100  # rows from which a layout is told


@dataclass(frozen=True)
class Opened:
    """A source that is being read."""

    file: SourceFile
    rows: Iterator[RawRow]


def open_source(located: Located) -> Opened:
    """Its rows, and what it is. Raises SlipwayError when it holds none, or when their layout cannot be told.

    Rows that cannot be read carry their fault. A file that is broken as a whole raises while its rows are read.
    """
    written, digest = _written(located), _digest(located)
    records = iter(_records(located))
    first = list(islice(records, LOOKED_AT))
    if not first:
        size = f" ({located.path.stat().st_size} bytes)" if located.path else ""
        raise SlipwayError(
            f"{located.path or located.name} has no rows{size}", cure="write the data again, or drop this source"
        )
    reader = _reader(located, first)
    rows = _rows(located, reader, chain(first, records))
    return Opened(_described(located, reader, digest), _unless_written(located, written, rows))


def _written(located: Located) -> tuple[int, int] | None:
    if located.path is None:
        return None
    found = located.path.stat()
    return found.st_size, found.st_mtime_ns


def _unless_written(located: Located, written: tuple[int, int] | None, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """The rows, unless the file is not the one any more whose digest was taken."""
    yield from rows
    if _written(located) != written:
        raise SlipwayError(f"{located.path} was written while it was read", cure="build again once it is complete")


def _digest(located: Located) -> str:
    if located.path is None:
        return digest_of(located.source.model_dump(include={"hub", "revision", "subset", "split"}))
    return file_digest(located.path)


def first_rows(located: Located, count: int) -> list[Any]:
    """The first rows as their file has them, without those that cannot be read."""
    return [record.data for record in islice(_records(located), count) if record.fault is None]


def _records(located: Located) -> Iterator[FileRow]:
    if located.path is None:
        yield from hub.read(located.source)
        return
    try:
        yield from FORMATS[located.format].read(DataFile(located.path, located.source.delimiter))
    except OSError as error:
        cause = error.strerror or str(error)
        raise SlipwayError(f"cannot read {located.path}: {cause}", cure=_cure(cause)) from error


def _cure(cause: str) -> str:
    packed = any(word in cause for word in ("zlib", "ZSTD", "compressed"))
    return "fetch or write the file again: it may be truncated" if packed else "check the file"


def _reader(located: Located, first: list[FileRow]) -> str:
    source = located.source
    if source.messages:
        return COLUMNS
    if source.reader is not None:
        return source.reader
    found = recognise(record.data for record in first if record.fault is None)
    if not isinstance(found, Problem):
        return found
    faults = [f"row {record.number}: {record.fault[0]}: {record.fault[1]}" for record in first if record.fault]
    shown = [
        Problem(f"{located.name}: {fault.partition(': ')[0]}", fault.partition(": ")[2]) for fault in faults[:SHOWN]
    ]
    what, cure = f"cannot be read: {found.what}", found.cure
    if len(faults) == len(first) and located.format == "jsonl":
        what, cure = "holds no JSON lines", "if it is one JSON value, say `format: json` or name it .json"
    raise SlipwayError(
        f"{located.path or located.name} {what}", where="dataset.yaml: sources: reader", problems=shown, cure=cure
    )


def _described(located: Located, reader: str, digest: str) -> SourceFile:
    source = located.source
    options: dict[str, Any] = {name: value for name in ("delimiter", "format") if (value := getattr(source, name))}
    options |= {"ignore": list(source.ignore)} if source.ignore else {}
    options |= {"messages": [turn.model_dump() for turn in source.messages]} if source.messages else {}
    options |= {"replay": source.replay, "share": source.share} if source.replay is not None else {}
    return SourceFile(name=located.name, digest=digest, reader=reader, options=options)


def _rows(located: Located, reader: str, records: Iterator[FileRow]) -> Iterator[RawRow]:
    source = located.source
    for record in records:
        row = RawRow(located.name, record.number, reader, record.data, record.fault, changes=record.changes)
        yield replace(row, template=source.messages, ignore=source.ignore) if source.messages or source.ignore else row
