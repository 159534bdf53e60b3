"""The reviewed rows behind a bundle: which items it learned from, who approved them, and whose requests they were."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.canonical import short
from configs.errors import SlipwayError
from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.build.dataset import PARTS
from delivery.clients.ledger.ledger import Ledger
from delivery.review.rows import FIELD
from tasks.data.dataset import read_version

SHOWN = 20


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

    def render(self) -> str:
        """A line for people."""
        request = f", request {self.request}" if self.request else ""
        written = f"rewritten by {self.rewritten_by}, " if self.rewritten_by else ""
        held = "; held out" if self.part == "holdout" else ""
        return f"{self.item} ({self.origin}{request}): {written}approved by {', '.join(self.reviewers)}{held}"


class ReviewedBehind(Strict):
    """What a release's bundle learned from, as far as people reviewed it. `unknown` says why that cannot be told."""

    dataset: str | None
    rows: tuple[ReviewedRow, ...] = ()
    unknown: str = ""

    def render(self) -> list[str]:
        """Lines for people; none where no row was reviewed."""
        if self.unknown:
            return [f"  reviewed rows: {self.unknown}"]
        if not self.rows or self.dataset is None:
            return []
        held = sum(one.part == "holdout" for one in self.rows)
        counts = f"{len(self.rows) - held} to train on, {held} held out"
        lines = [f"  reviewed rows in dataset version {short(self.dataset)}: {counts}"]
        lines += [f"    {one.render()}" for one in self.rows[:SHOWN]]
        more = len(self.rows) - SHOWN
        return [*lines, f"    and {more} more: --json shows all"] if more > 0 else lines


def behind_release(ledger: Ledger, release_id: str, home: Path) -> ReviewedBehind:
    """The reviewed rows behind the bundle of a release. A dataset version that is not on this machine is told."""
    bundle = ledger.bundle(ledger.state(release_id).candidate.bundle)
    if bundle is None or bundle.dataset_version is None:
        return ReviewedBehind(dataset=None)
    try:
        rows = tuple(reviewed_rows(bundle, home))
    except SlipwayError as error:
        return ReviewedBehind(dataset=bundle.dataset_version, unknown=error.what)
    return ReviewedBehind(dataset=bundle.dataset_version, rows=rows)


def reviewed_rows(bundle: Bundle, home: Path) -> list[ReviewedRow]:
    """Of the dataset version that the bundle's adapter learned from. Raises SlipwayError when it is not there."""
    if bundle.dataset_version is None:
        return []
    version = read_version(home, bundle.dataset_version)
    if FIELD not in version.manifest.fields:
        return []
    return [found for part in PARTS for found in _of_part(version.folder / f"{part}.jsonl", part)]


def _of_part(file: Path, part: str) -> Iterator[ReviewedRow]:
    names = set(ReviewedRow.model_fields) - {"row", "part"}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            said = row.get("fields", {}).get(FIELD)
            if isinstance(said, dict) and "item" in said and "reviewers" in said:
                known = {name: value for name, value in said.items() if name in names}
                yield ReviewedRow.model_validate({**known, "row": row["id"], "part": part})
