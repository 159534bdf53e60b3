"""Reads from a traffic log what may become items of the review queue; texts only of the requests that do.

Two passes over the files, one file at a time, so that a large log with few complaints takes little memory.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute as pc
from pyarrow import parquet

from configs.errors import ConfigError
from configs.review import Review
from delivery.clients.traffic_log import log_files, log_table
from delivery.review.picks import LoggedRow, Picked, picked, wanted
from delivery.traffic.columns import CONTRACT

TEXTS = ("prompt", "answer", "comment")
NAMED = ("request_id", "variant", "role", "ok", "user", "bundle", "rating", "escalated")


def read_reviewable(path: Path, route: str, rules: Review) -> Picked:
    """What of a log becomes items. Raises ConfigError for a log that cannot be read, or that holds no text at all."""
    files = log_files(path)
    log_table(path)  # everything that is wrong with any of them is told at once
    reasons = wanted((row for file in files for row in _rows(file, route)), rules)
    if not reasons:
        return Picked(())
    rows = [row for file in files for row in _rows(file, route, pyarrow.array(sorted(reasons), pyarrow.string()))]
    found = picked(rows, reasons, rules, _alike)
    if not found.found and found.left_out.get("no-text"):
        raise ConfigError(
            f"{path} holds no text of {found.left_out['no-text']} requests that people should see",
            cure="let the gateway write texts (traffic_log: {text: true} in environment.yaml); they are redacted first",
        )
    return found


def _alike(one: str, other: str) -> float:
    from rapidfuzz import fuzz

    return float(fuzz.token_sort_ratio(one, other)) / 100


def _rows(file: Path, route: str, requests: Any = None) -> Iterator[LoggedRow]:
    """A file's rows of one route; with texts where `requests` says of which."""
    schema = parquet.read_schema(file)
    names = (*NAMED, "event", "route", "status", "error", "ended_at", *(TEXTS if requests is not None else ()))
    broken = [name for name in schema.names if name.startswith(CONTRACT)]
    table = parquet.read_table(file, columns=[name for name in (*names, *broken) if name in schema.names])
    if "route" in table.column_names:
        table = table.filter(pc.or_kleene(pc.equal(table["route"], route), pc.is_null(table["route"])))
    if requests is not None:
        table = table.filter(pc.is_in(table["request_id"].cast(pyarrow.string()), requests))
    for batch in table.to_batches():
        for row in batch.to_pylist():
            yield _seen(row, broken)


def _seen(row: dict[str, Any], broken: list[str]) -> LoggedRow:
    status, error = row.get("status") or 0, row.get("error") or ""
    ok = row.get("ok")
    at = row.get("ended_at") or 0.0
    if isinstance(at, datetime) and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return LoggedRow(
        request_id=row["request_id"],
        is_feedback=row.get("event") == "feedback",
        variant=row.get("variant") or "",
        role=row.get("role") or "served",
        ok=bool(ok) if ok is not None else 200 <= status < 300 and not error,
        at=float(at) if isinstance(at, int | float) else at.timestamp(),
        user=row.get("user") or "",
        bundle=row.get("bundle") or "",
        rating=row.get("rating"),
        escalated=bool(row.get("escalated")),
        broken=tuple(name.removeprefix(CONTRACT) for name in broken if row.get(name)),
        **{name: row.get(name) for name in TEXTS},
    )
