"""Reads from a traffic log what users asked before and since a moment: one request of each user, one file at a time."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from configs.errors import ConfigError
from delivery.build.drift import OnePerUser
from delivery.clients.traffic_log import log_files

COLUMNS = ("event", "route", "role", "user", "request_id", "started_at", "prompt")


def read_asked(path: Path, route: str, moment: float, at_most: int) -> tuple[list[str], list[str]]:
    """The last question of a request of each user: those asked before `moment` (UNIX seconds), and those since.

    Raises ConfigError for a log that cannot be read or holds no prompts.
    """
    before, since = OnePerUser(at_most), OnePerUser(at_most)
    rows = 0
    for file in log_files(path):
        for row in _rows(file, route):
            rows += 1
            question = _question(row["prompt"])
            if question is not None:
                side = before if _seconds(row["started_at"]) < moment else since
                side.add(row["user"] or "", row["request_id"], question)
    if rows and not before.texts() and not since.texts():
        raise ConfigError(
            f"{path} holds no prompts, so that nobody can tell whether requests drift",
            where="dataset.yaml: refresh.drift",
            cure="let the gateway write texts (traffic_log: {text: true} in environment.yaml), or leave drift out",
        )
    return before.texts(), since.texts()


def _rows(file: Path, route: str) -> Iterator[dict[str, Any]]:
    """A file's requests of one route, whose answers users saw; each once."""
    try:
        names = parquet.read_schema(file).names
        table = parquet.read_table(file, columns=[name for name in COLUMNS if name in names])
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{file} cannot be read as parquet: {str(error).splitlines()[0]}") from error
    missing = [name for name in ("request_id", "started_at") if name not in names]
    if missing:
        raise ConfigError(f"{file} has no column {', '.join(missing)}", cure="see docs/traffic-log.md")
    for batch in table.to_batches():
        for row in batch.to_pylist():
            row = dict.fromkeys(COLUMNS) | row
            if row["event"] != "feedback" and row["role"] in (None, "served") and row["route"] in (None, route):
                yield row


def _question(prompt: str | None) -> str | None:
    """What the user said last; None where the log has no whole prompt."""
    try:
        messages = json.loads(prompt or "")
        said = [message["content"] for message in messages if message["role"] == "user"]
    except (ValueError, TypeError, KeyError):
        return None
    if said and isinstance(said[-1], list):
        said = [" ".join(str(part.get("text", "")) for part in said[-1] if isinstance(part, dict))]
    return said[-1] if said and isinstance(said[-1], str) else None


def _seconds(at: Any) -> float:
    if isinstance(at, datetime):
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    return float(at)
