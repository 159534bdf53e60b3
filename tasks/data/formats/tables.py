"""Parquet and Arrow: tables whose text may be stored as plain bytes, read batch by batch."""

import math
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from configs.errors import SlipwayError
from delivery.build.layouts.row import NotUtf8
from tasks.data.formats.datafile import DataFile, FileRow, Format

BATCH_ROWS = 512


def _parquet(file: DataFile) -> Iterator[FileRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.unpacked() as path:
        try:
            with pq.ParquetFile(path, memory_map=True) as table:
                yield from records_of(table.iter_batches(batch_size=BATCH_ROWS))
        except (pa.ArrowException, OSError) as error:
            raise _broken(file.path, "parquet", error) from error


def _arrow(file: DataFile) -> Iterator[FileRow]:
    """Both of Arrow's forms: files (Feather 2) and streams, which the `datasets` library writes."""
    import pyarrow as pa

    with file.unpacked() as path:
        try:
            with pa.memory_map(str(path)) as source:
                is_file = source.read(6) == b"ARROW1"
                source.seek(0)
                reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
                batches = (reader.get_batch(n) for n in range(reader.num_record_batches)) if is_file else iter(reader)
                small = (
                    whole.slice(at, BATCH_ROWS) for whole in batches for at in range(0, whole.num_rows, BATCH_ROWS)
                )
                yield from records_of(small)
        except (pa.ArrowException, OSError) as error:
            raise _broken(file.path, "Arrow", error) from error


def records_of(batches: Iterator[Any]) -> Iterator[FileRow]:
    """The rows of Arrow batches or tables, numbered from 1."""
    number = 0
    for batch in batches:
        names = class_names(batch.schema)
        for data in batch.to_pylist():
            number += 1
            row = {key: plain(value) for key, value in data.items()}
            for key, labels in names.items():
                if isinstance(row.get(key), int) and 0 <= row[key] < len(labels):
                    row[key] = labels[row[key]]
            yield FileRow(number, row)


def class_names(schema: Any) -> dict[str, list[str]]:
    """The columns that the `datasets` library stores as numbers of classes, with the classes' names."""
    import json

    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said.get("info", {}).get("features") or {}
        return {
            key: f["names"] for key, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, KeyError):
        return {}


def plain(value: Any) -> Any:
    """A table's value as JSON knows it; bytes are text, and those that are no UTF-8 say so where they are used."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        text = NotUtf8(value[:1000].decode("utf-8", "backslashreplace"))
        text.fault = f"byte {error.start} is {value[error.start]:#04x}"
        return text


def _broken(path: Path, kind: str, error: Exception) -> SlipwayError:
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    return SlipwayError(f"{path} cannot be read as {kind}: {cause}", cure="write the file again, it may be truncated")


PARQUET = Format((".parquet", ".pq"), _parquet, "a table")
ARROW = Format((".arrow", ".feather"), _arrow, "a table, as a file or as a stream")
