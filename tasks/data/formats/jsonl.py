"""JSON lines: one object a line, so that a bad line costs one row. A file that ends inside a row is refused."""

import codecs
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.canonical import canonical_json
from configs.errors import SlipwayError
from tasks.data.formats.datafile import DataFile, FileRow, Format, refuse_encoding, undecodable

OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
SHOWN_CHARS = 80


def read(file: DataFile) -> Iterator[FileRow]:
    """Line by line. What speaks against the file as a whole is known at its end at the latest."""
    rows = undecoded = faults = 0
    first, last, number = "", b"", 0
    with file.opened() as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1 and line.startswith(OTHER_ENCODINGS):
                raise refuse_encoding(file.path, 1, f"row 1: byte 0 is {line[0]:#04x}")
            last = line
            record = parsed_line(number, line)
            if record is None:
                continue
            rows, faults = rows + 1, faults + bool(record.fault)
            if record.fault is not None and record.fault[0] == "not-utf8":
                undecoded += 1
                first = first or f"row {number}: {record.fault[1]}"
            yield record
    if rows and undecoded == rows:
        raise refuse_encoding(file.path, rows, first)
    _refuse_half(file.path, last, number, rows, faults)


def parsed_line(number: int, line: bytes) -> FileRow | None:
    """One line, unless it is blank."""
    bare = line.removesuffix(b"\n").removesuffix(b"\r")
    text = bare.removeprefix(codecs.BOM_UTF8)
    changes = ("byte-order-mark",) if text != bare else ()
    if not text.strip():
        return None
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        data, fault = undecodable(text, error)
        return FileRow(number, data, fault, changes)
    value, wrong = parsed(decoded)
    return FileRow(number, value, wrong, changes)


def parsed(text: str) -> tuple[Any, tuple[str, str] | None]:
    """A JSON value, or the text and its fault."""
    try:
        data = json.loads(text, object_pairs_hook=without_twins)
    except (ValueError, RecursionError) as error:
        return text, ("not-json", str(error))
    fault = fault_of(data)
    return (text, fault) if fault else (data, None)


def fault_of(value: Any) -> tuple[str, str] | None:
    """What JSON cannot express again is no value: NaN, and halves of surrogate pairs."""
    try:
        canonical_json(value)
    except (ValueError, RecursionError) as error:
        return ("not-json", str(error))
    return None


class TwinKeysError(ValueError):
    """An object names a key twice; which one counts is unclear."""


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Raises TwinKeysError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TwinKeysError(f"the key {twice!r} stands twice in one object: which one counts is unclear")
    return found


def _refuse_half(path: Path, last: bytes, number: int, rows: int, faults: int) -> None:
    """A last line that is only the beginning of a row. Where no row is JSON, the file is of another kind instead."""
    if last.endswith(b"\n") or not _is_half(last) or (rows > 1 and faults == rows):
        return
    shown = last.decode("utf-8", "backslashreplace")
    shown = shown if len(shown) <= SHOWN_CHARS else f"{shown[: SHOWN_CHARS // 2]} ... {shown[-SHOWN_CHARS // 2 :]}"
    raise SlipwayError(
        f"{path} is truncated: it ends in the middle of row {number}, after {rows - 1} whole ones",
        where=f"{path}: row {number}: {len(last)} bytes without a line end, which are no JSON: {shown}",
        cure="fetch or write the file again: rows may be missing behind it; to do without them on purpose, remove the "
        f"half line: sed -i '$d' {shlex.quote(str(path))}",
    )


def _is_half(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8-sig") or "0")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    except json.JSONDecodeError:
        return bool(line.strip())
    except RecursionError:
        return False
    return False


FORMAT = Format((".jsonl", ".ndjson"), read, "one JSON object a line")
