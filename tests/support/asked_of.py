"""A traffic log with what users asked and nothing else."""

import json
from pathlib import Path

import pyarrow
from pyarrow import parquet


def write_asked(path: Path, questions: list[str], at: float, route: str = "tutor", user: str = "") -> None:
    """Each question is another user's, or all are `user`'s."""
    rows = [
        {
            "event": "attempt",
            "route": route,
            "variant": "base",
            "role": "served",
            "user": user or f"{path.stem}-{number}",
            "request_id": f"{path.stem}-{number}",
            "started_at": at,
            "ended_at": at,
            "status": 200,
            "prompt": json.dumps([{"role": "user", "content": question}]),
        }
        for number, question in enumerate(questions)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
