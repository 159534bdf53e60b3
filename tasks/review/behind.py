"""The reviewed rows behind a bundle: which items it learned from, who approved them, and whose requests they were."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.build.dataset import PARTS
from delivery.review.rows import FIELD
from tasks.data.dataset import read_version


class ReviewedRow(Strict):
    """One row of a dataset version that people approved."""

    row: str  # its id there
    part: str  # train or holdout
    item: str
    origin: str
    request: str = ""
    reviewers: tuple[str, ...]
    rewritten_by: str = ""
    label: str = ""


def reviewed_rows(bundle: Bundle, home: Path) -> list[ReviewedRow]:
    """Of the dataset version that the bundle's adapter learned from. Raises SlipwayError when it is not there."""
    if bundle.dataset_version is None:
        return []
    folder = read_version(home, bundle.dataset_version).folder
    return [found for part in PARTS for found in _of_part(folder / f"{part}.jsonl", part)]


def _of_part(file: Path, part: str) -> Iterator[ReviewedRow]:
    names = set(ReviewedRow.model_fields) - {"row", "part"}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            said = row.get("fields", {}).get(FIELD)
            if isinstance(said, dict) and "item" in said and "reviewers" in said:
                known = {name: value for name, value in said.items() if name in names}
                yield ReviewedRow.model_validate({**known, "row": row["id"], "part": part})
