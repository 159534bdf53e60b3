"""What became of a dataset's rows: how many were kept, changed and rejected, by kind, each with a few examples."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from configs.strict import Strict
from delivery.build.rows import Example, Rejected

SHOWN = 3  # examples of each kind
SHOWN_CHARS = 500


class ShownRow(Strict):
    """One row of a kind; `what` is a sentence, `before` and `after` are texts where one was changed."""

    source: str
    row: int
    what: str = ""
    before: str = ""
    after: str = ""


class RowKind(Strict):
    """How many rows, and the first few of them."""

    rows: int
    examples: tuple[ShownRow, ...]


class RowReport(Strict):
    """Counts by kind, most frequent first. `fields` are columns that are kept beside the rows and not trained on."""

    read: int
    kept: int
    preferences: int  # kept rows that are pairs of answers
    rejected: dict[str, RowKind]
    changed: dict[str, RowKind]
    noticed: dict[str, RowKind]
    fields: dict[str, int]

    def counts(self, name: str) -> dict[str, int]:
        """`rejected`, `changed` or `noticed` as kind -> rows."""
        kinds: Mapping[str, RowKind] = getattr(self, name)
        return {kind: found.rows for kind, found in kinds.items()}


class RowTally:
    """Adds rows up, one after the other."""

    def __init__(self) -> None:
        self.read = self.kept = self.preferences = 0
        self.fields: Counter[str] = Counter()
        self._counts = {name: Counter[str]() for name in ("rejected", "changed", "noticed")}
        self._shown: dict[tuple[str, str], list[ShownRow]] = {}

    def add(self, outcome: Example | Rejected) -> None:
        """One row."""
        self.read += 1
        if isinstance(outcome, Rejected):
            self._add("rejected", outcome.reason, ShownRow(source=outcome.source, row=outcome.row, what=outcome.detail))
            return
        self.kept += 1
        self.preferences += outcome.is_preference
        self.fields.update(map(str, outcome.fields))
        for kind, change in outcome.changes.items():
            if self._wants("changed", kind):
                place = {"source": outcome.source, "row": outcome.row, "what": change.where}
                self._add("changed", kind, ShownRow(**place, before=change.before, after=change.after))
        for kind in outcome.notices:
            if self._wants("noticed", kind):
                said = outcome.messages[0]["content"] if kind == "own-system-prompt" else ""
                self._add("noticed", kind, ShownRow(source=outcome.source, row=outcome.row, what=said[:SHOWN_CHARS]))

    def take_back(self, row: Mapping[str, Any], rejected: Rejected) -> None:
        """A row (of train.jsonl or holdout.jsonl) that was kept is rejected after all, once all rows are known."""
        self.kept -= 1
        self.preferences -= "chosen" in row
        self.fields.subtract(map(str, row["fields"]))
        self._add("rejected", rejected.reason, ShownRow(source=rejected.source, row=rejected.row, what=rejected.detail))

    def report(self) -> RowReport:
        """What was added so far."""
        kinds = {
            name: {k: RowKind(rows=n, examples=tuple(self._shown.get((name, k), ()))) for k, n in counts.most_common()}
            for name, counts in self._counts.items()
        }
        fields = {name: rows for name, rows in self.fields.most_common() if rows}
        return RowReport(read=self.read, kept=self.kept, preferences=self.preferences, fields=fields, **kinds)

    def rejected(self) -> dict[str, int]:
        """Reason -> rows, most frequent first."""
        return dict(self._counts["rejected"].most_common())

    def _wants(self, name: str, kind: str) -> bool:
        """Counts a row of a kind, and says whether there is room to show it."""
        if len(self._shown.get((name, kind), ())) < SHOWN:
            return True
        self._counts[name][kind] += 1
        return False

    def _add(self, name: str, kind: str, shown: ShownRow) -> None:
        self._counts[name][kind] += 1
        examples = self._shown.setdefault((name, kind), [])
        if len(examples) < SHOWN:
            examples.append(shown)


def as_json(report: RowReport) -> dict[str, Any]:
    """For a file: plain dicts and lists."""
    return report.model_dump(mode="json")
