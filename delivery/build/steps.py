"""A named, versioned step of a recipe: what it says of a row, and how a version remembers it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from configs.strict import Strict
from delivery.build.rows import Example

REASONS = {
    "length": ("length",),
    "language": ("language",),
    "answers": ("refusal", "toxic", "pattern"),
    "personal_data": ("personal-data",),
    "near_duplicates": ("near-duplicate",),
    "eval_overlap": ("eval-overlap",),
}
"""Step -> what the rows that it rejects are counted by; a pattern of one's own counts as pattern:NAME."""

STEPS = ("length", "language", "answers", "personal_data", "near_duplicates")
"""Those that `filters` of a recipe names; what it does not name does not run."""

PERSONAL_DATA = "personal-data"


class StepRecord(Strict):
    """A step as a version remembers it: with these settings, this code and these packages it gives these rows again."""

    name: str
    version: int
    settings: dict[str, Any]
    code: str  # digest of the step's own file
    packages: dict[str, str] = Field(default_factory=dict)  # name -> version
    rejected: int = 0
    changed: int = 0

    def counted(self, rejected: Mapping[str, int], changed: Mapping[str, int]) -> "StepRecord":
        """With what became of the rows: reason -> rows, kind of change -> rows."""
        reasons = REASONS[self.name]
        mine = sum(rows for reason, rows in rejected.items() if reason.partition(":")[0] in reasons)
        return self.model_copy(update={"rejected": mine, "changed": sum(changed.get(name, 0) for name in reasons)})


@dataclass(frozen=True)
class RowStep:
    """`judge` gives the row back, changed or as it is, and raises Unusable for one that is not to be kept."""

    record: StepRecord
    judge: Callable[[Example], Example]
