"""A file as every format gets it: opened through its compression, and what a format makes of it, record by record."""

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from configs.errors import SlipwayError

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
PACKED = frozenset({".gz", ".gzip", ".zst", ".zstd"})
BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class FileRow:
    """`data` is the row; `fault` is (reason, detail) where it cannot be read; `changes` names what reading changed."""

    number: int  # line of the file, or row of the table, from 1
    data: Any
    fault: tuple[str, str] | None = None
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataFile:
    """One file on disk."""

    path: Path
    delimiter: str | None = None

    @property
    def compression(self) -> str | None:
        """gzip or zstd, by the file's first bytes: a name may be wrong, and these are not."""
        with self.path.open("rb") as file:
            first = file.read(4)
        return next((name for magic, name in MAGIC.items() if first.startswith(magic)), None)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The unpacked bytes, from the start."""
        import pyarrow as pa

        packing = self.compression
        stream = self.path.open("rb") if packing is None else pa.input_stream(str(self.path), compression=packing)
        with io.BufferedReader(stream, BUFFER_BYTES) as reader:
            yield cast(BinaryIO, reader)

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """A file with the unpacked bytes, for formats that are read from their end."""
        if self.compression is None:
            yield self.path
            return
        with tempfile.NamedTemporaryFile(prefix="slipway-") as copy:
            with self.opened() as stream:
                shutil.copyfileobj(stream, copy, BUFFER_BYTES)
            copy.flush()
            yield Path(copy.name)


@dataclass(frozen=True)
class Format:
    """`suffixes` tell it by a file's name; `read` gives its records, and raises SlipwayError for a broken file."""

    suffixes: tuple[str, ...]
    read: Callable[[DataFile], Iterator[FileRow]]
    describes: str


def refuse_encoding(path: Path, lines: int, shown: str) -> SlipwayError:
    """The error for a file of which no line is UTF-8."""
    return SlipwayError(
        f"{path} is not UTF-8: {lines} of {lines} lines cannot be decoded",
        where=f"{path}: {shown}",
        cure=f"convert it, e.g. iconv -f UTF-16 -t UTF-8 {path.name} (from Excel perhaps -f WINDOWS-1252)",
    )


def undecodable(line: bytes, error: UnicodeDecodeError) -> tuple[str, tuple[str, str]]:
    """A line as far as it can be shown, and its fault."""
    return line.decode("utf-8", "backslashreplace"), ("not-utf8", f"byte {error.start} is {line[error.start]:#04x}")
