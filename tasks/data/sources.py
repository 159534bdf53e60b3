"""Reads the files that a dataset is made from, so that one bad row costs one row and a wrong file is named."""

import codecs
import hashlib
import json
import math
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from configs.canonical import canonical_json
from configs.dataset import Source
from configs.errors import SlipwayError, require_all
from delivery.build.dataset import RawRow

_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
SHOWN_CHARS = 80
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def locate(source: Source, folder: Path, index: int) -> Path:
    """Where a source lies: ${NAME} filled from the environment, relative paths from the recipe's folder."""
    where = f"{folder / 'dataset.yaml'}: sources.{index}.path"
    text = str(source.path)
    for name in _VARIABLE.findall(text):
        if not os.environ.get(name):
            raise SlipwayError(
                f"the environment variable {name} is not set",
                where=f"{where}: {text}",
                cure=f"export {name}=<the folder that holds {text.partition('}/')[2] or 'the data'}>",
            )
    path = folder / _VARIABLE.sub(lambda match: os.environ[match[1]], text)
    if not os.path.isfile(path):  # unlike is_file, False for a name that is too long
        what = "is a folder, not a file" if os.path.isdir(path) else "does not exist"
        near = sorted(p.name for p in path.parent.iterdir() if p.is_file())[:10] if os.path.isdir(path.parent) else []
        holds = f"{path.parent} holds: {', '.join(near) or 'no files'}" if near else f"there is no folder {path.parent}"
        raise SlipwayError(f"the dataset file {path} {what}", where=where, cure=f"correct the path; {holds}")
    if path.suffix not in (".jsonl", ".parquet"):
        raise SlipwayError(
            f"cannot tell how to read {path}: its suffix is {path.suffix!r}",
            where=where,
            cure="use .jsonl (one JSON object a line) or .parquet",
        )
    return path


def locate_all(sources: Sequence[Source], folder: Path) -> list[Path]:
    """Where each source lies. Raises one SlipwayError with the problems of all that cannot be located."""
    require_all(
        "the dataset cannot be read",
        [partial(locate, source, folder, index) for index, source in enumerate(sources)],
    )
    return [locate(source, folder, index) for index, source in enumerate(sources)]


def file_digest(path: Path) -> str:
    """`sha256:...` of a file's content."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The files' names without their folders, numbered where two are the same."""
    names = [path.name for path in paths]
    return [name if names.count(name) == 1 else f"{index}:{name}" for index, name in enumerate(names)]


def read_rows(path: Path, reader: str, name: str) -> list[RawRow]:
    """All rows of one file. Rows that cannot be read carry their fault.

    A file without a readable row is refused, and so is one that ends in the middle of a row: what else of it is missing
    cannot be told.
    """
    try:
        content = b"" if path.suffix == ".parquet" else path.read_bytes()
        rows = list(_parquet(path, reader, name) if path.suffix == ".parquet" else _jsonl(content, reader, name))
    except OSError as error:
        raise SlipwayError(f"cannot read {path}: {error.strerror or error}", cure="check the file") from error
    if not rows:
        raise SlipwayError(
            f"{path} has no rows ({path.stat().st_size} bytes)", cure="write the data again, or drop this source"
        )
    if path.suffix == ".jsonl":
        _refuse_other_encoding(path, content, rows)
        _refuse_half(path, content, rows)
    return rows


def _refuse_other_encoding(path: Path, content: bytes, rows: Sequence[RawRow]) -> None:
    first = rows[0]
    readable = [row for row in rows if row.fault is None or row.fault[0] != "not-utf8"]
    if not readable or content.startswith(_OTHER_ENCODINGS):
        raise SlipwayError(
            f"{path} is not UTF-8: {len(rows) - len(readable)} of {len(rows)} lines cannot be decoded",
            where=f"{path}: row {first.number}: {first.fault[1] if first.fault else ''}",
            cure=f"convert it, e.g. iconv -f UTF-16 -t UTF-8 {path.name}; unpack it first if it is compressed",
        )


def _refuse_half(path: Path, content: bytes, rows: Sequence[RawRow]) -> None:
    """A last line that is only the beginning of a row. Where no row is JSON, the file is of another kind instead."""
    last = content.rpartition(b"\n")[2]
    if not _is_half(last) or (len(rows) > 1 and all(row.fault for row in rows)):
        return
    shown = last.decode("utf-8", "backslashreplace")
    shown = shown if len(shown) <= SHOWN_CHARS else f"{shown[: SHOWN_CHARS // 2]} ... {shown[-SHOWN_CHARS // 2 :]}"
    raise SlipwayError(
        f"{path} is truncated: it ends in the middle of row {rows[-1].number}, after {len(rows) - 1} whole ones",
        where=f"{path}: row {rows[-1].number}: {len(last)} bytes without a line end, which are no JSON: {shown}",
        cure="fetch or write the file again: rows may be missing behind it; to do without them on purpose, remove the "
        f"half line: sed -i '$d' {shlex.quote(str(path))}",
    )


def _is_half(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8") or "0")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    except json.JSONDecodeError:
        return bool(line.strip())
    except RecursionError:
        return False
    return False


def _jsonl(content: bytes, reader: str, name: str) -> Iterator[RawRow]:
    """Line by line: the `datasets` library's own JSON reader gives a whole file up at its first bad line."""
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            data, fault = _parsed(line)
            yield RawRow(name, number, reader, data, fault)


def _parsed(line: bytes) -> tuple[Any, tuple[str, str] | None]:
    try:
        text = line.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        fault = ("not-utf8", f"byte {error.start} is {line[error.start]:#04x}")
        return line.decode("utf-8", "backslashreplace"), fault
    try:
        data = json.loads(text)
        canonical_json(data)  # refuses NaN and halves of surrogate pairs, which could not be written again
    except (ValueError, RecursionError) as error:
        return text, ("not-json", str(error))
    return data, None


def _parquet(path: Path, reader: str, name: str) -> Iterator[RawRow]:
    import datasets

    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        link = Path(folder, "rows.parquet")  # the library takes [ ] * ? in a path for a pattern
        link.symlink_to(path.resolve())
        try:
            table = datasets.load_dataset("parquet", data_files=[str(link)], split="train", streaming=True)
            for number, data in enumerate(table, start=1):
                yield RawRow(name, number, reader, _plain(data))
        except (ValueError, TypeError) as error:  # pyarrow's errors are ValueErrors
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SlipwayError(
                f"{path} cannot be read as parquet: {cause}", cure="write the file again, it may be truncated"
            ) from error


def _plain(value: Any) -> Any:
    """A parquet value as JSON knows it; what JSON has no word for becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
