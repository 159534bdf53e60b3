"""A JSON file: an array of rows, an object that holds one array of rows, or lines of JSON under that name.

An array is read piece by piece, so that a large file does not have to fit into memory.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from configs.errors import SlipwayError
from tasks.data.formats import jsonl
from tasks.data.formats.datafile import DataFile, FileRow, Format, refuse_encoding

PIECE_BYTES = 1 << 20
SPACE = re.compile(r"[ \t\r\n]*")


def read(file: DataFile) -> Iterator[FileRow]:
    """Row by row. After a fault inside an array nothing can be told apart any more, so the file is refused."""
    with file.opened() as stream:
        start = stream.peek(4096)[:4096].removeprefix(codecs.BOM_UTF8).lstrip()  # type: ignore[attr-defined]
        if start.startswith(b"["):
            yield from _Array(file.path, stream).records()
            return
        if start.startswith(jsonl.OTHER_ENCODINGS):
            raise refuse_encoding(file.path, 1, f"byte 0 is {start[0]:#04x}")
        first = stream.readline()
        is_lines = _is_json(first) and bool(stream.read(1))
    yield from jsonl.read(file) if is_lines else _held(file)


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode("utf-8-sig")), dict)
    except ValueError:
        return False


def _held(file: DataFile) -> Iterator[FileRow]:
    """The rows of the only list of objects in one object; the object itself is the row where it holds none."""
    with file.opened() as stream:
        content = stream.read()
    if not content.strip():
        return
    try:
        value, fault = jsonl.parsed(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _broken(file.path, f"byte {error.start} is {content[error.start]:#04x}, which is no UTF-8") from error
    if fault is not None:
        raise _broken(file.path, fault[1])
    lists = {name: rows for name, rows in value.items() if _are_rows(rows)} if isinstance(value, dict) else {}
    if len(lists) > 1:
        raise _broken(file.path, f"it holds several lists: {', '.join(lists)}")
    is_row = not lists or any(name in ("messages", "conversations") for name in lists)
    for number, row in enumerate([value] if is_row else next(iter(lists.values())), start=1):
        yield FileRow(number, row)


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


class _Array:
    """Takes one value after the other from a text that grows by pieces."""

    def __init__(self, path: Path, stream: BinaryIO):
        self.path, self.stream = path, stream
        self.decode = codecs.getincrementaldecoder("utf-8-sig")()
        self.parse = json.JSONDecoder(object_pairs_hook=jsonl.without_twins)
        self.text, self.at, self.ended, self.number = "", 0, False, 0

    def records(self) -> Iterator[FileRow]:
        self._take("[")
        while self._next() != "]" or self.number:
            self.number += 1
            yield self._value()
            if self._next() == "]":
                break
            self._take(",")
        self._take("]")
        if self._next():
            raise self._wrong(f"there is more behind the array: {self.text[self.at : self.at + 40]!r}")

    def _value(self) -> FileRow:
        while True:
            self._next()
            try:
                value, end = self.parse.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                if self.ended or isinstance(error, RecursionError | jsonl.TwinKeysError):
                    raise self._wrong(str(error)) from error
            else:
                if end < len(self.text) or self.ended:  # at the very end 12 may be the start of 123
                    raw, self.at = (self.at, end), end
                    fault = jsonl.fault_of(value)
                    return FileRow(self.number, self.text[slice(*raw)] if fault else value, fault)
            self._more(max(PIECE_BYTES, len(self.text) - self.at))  # twice as much: a long row is parsed a few times

    def _next(self) -> str:
        """The next character that is no space, which is not taken; an empty text at the end."""
        while True:
            self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more(PIECE_BYTES)

    def _take(self, mark: str) -> None:
        found = self._next()
        if found != mark:
            raise self._wrong(f"expected {mark!r}, found {found!r}")
        self.at += 1

    def _more(self, size: int) -> None:
        piece = self.stream.read(size)
        self.ended = not piece
        try:
            self.text, self.at = self.text[self.at :] + self.decode.decode(piece, final=self.ended), 0
        except UnicodeDecodeError as error:
            raise self._wrong(f"byte {error.object[error.start]:#04x} is no UTF-8") from error

    def _wrong(self, what: str) -> SlipwayError:
        if self.ended and what.startswith(("expected", "Expecting", "Unterminated")):
            return _broken(self.path, f"it is truncated: it ends in or behind row {self.number}")
        return _broken(self.path, f"row {self.number}: {what}")


def _broken(path: Path, what: str) -> SlipwayError:
    return SlipwayError(
        f"{path} cannot be read as JSON: {what}",
        cure="write the file again; as JSON lines (.jsonl) one bad row would cost one row",
    )


FORMAT = Format((".json",), read, "a JSON array of rows")
