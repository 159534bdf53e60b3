"""CSV and TSV: the first line names the fields, every cell is text, and a cell may hold line ends between quotes."""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from configs.errors import SlipwayError
from tasks.data.formats.datafile import DataFile, FileRow, Format, refuse_encoding
from tasks.data.formats.jsonl import OTHER_ENCODINGS

CELL_CHARS = 1 << 26  # the csv module's own limit is 128 KiB
OTHER_DELIMITERS = ";\t|,"


def reader_of(delimiter: str) -> Callable[[DataFile], Iterator[FileRow]]:
    """How a file with this delimiter is read, unless its source names another."""

    def read(file: DataFile) -> Iterator[FileRow]:
        csv.field_size_limit(CELL_CHARS)
        with file.opened() as stream:
            if stream.peek(4).startswith(OTHER_ENCODINGS):  # type: ignore[attr-defined]
                raise refuse_encoding(file.path, 1, "row 1 starts with the mark of UTF-16 or UTF-32")
            has_mark = stream.peek(4).startswith(codecs.BOM_UTF8)  # type: ignore[attr-defined]
            # a byte that is no UTF-8 becomes half of a surrogate pair, which tells its row from the others
            text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
            yield from _records(file.path, text, file.delimiter or delimiter, has_mark)

    return read


def _records(path: Path, text: io.TextIOWrapper, delimiter: str, has_mark: bool) -> Iterator[FileRow]:
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        _check_header(path, header, delimiter)
        line = rows.line_num + 1
        for cells in rows:
            if cells:
                yield _record(line, header, cells, ("byte-order-mark",) if has_mark else ())
                has_mark = False
            line = rows.line_num + 1
    except csv.Error as error:
        cure = "write the file again; a quote inside a quoted cell is doubled, and a file that ends there is truncated"
        raise SlipwayError(f"{path} cannot be read: line {rows.line_num}: {error}", cure=cure) from error


def _check_header(path: Path, header: Sequence[str], delimiter: str) -> None:
    what = ""
    if twice := sorted({name for name in header if header.count(name) > 1}):
        what = f"names fields twice: {', '.join(map(repr, twice))}"
    elif any("\udc80" <= char <= "\udcff" for name in header for char in name):
        what = "is not UTF-8"
    elif len(header) == 1 and (other := next((mark for mark in OTHER_DELIMITERS if mark in header[0]), None)):
        what = f"is one field, {header[0]!r}: the delimiter may be {other!r}, not {delimiter!r}"
    if what:
        cure = "the first line names the fields; a source may say `delimiter`, and iconv changes an encoding"
        raise SlipwayError(f"{path}: the first line {what}", cure=cure)


def _record(line: int, header: Sequence[str], cells: Sequence[str], changes: tuple[str, ...]) -> FileRow:
    for name, cell in zip(header, cells, strict=False):
        if not cell.isascii() and (bad := next((char for char in cell if "\udc80" <= char <= "\udcff"), None)):
            shown = [text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for text in cells]
            return FileRow(line, shown, ("not-utf8", f"`{name}`: a byte is {ord(bad) - 0xDC00:#04x}"), changes)
    if len(cells) != len(header):
        what = f"{len(cells)} cells, and the first line names {len(header)} fields"
        shown = [text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for text in cells]
        return FileRow(line, shown, ("wrong-shape", what), changes)
    return FileRow(line, dict(zip(header, cells, strict=True)), None, changes)


CSV = Format((".csv",), reader_of(","), "a table with a first line of names")
TSV = Format((".tsv", ".tab"), reader_of("\t"), "the same, separated by tabs")
