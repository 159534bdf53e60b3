"""Erasures on record: which person's rows never enter a version again, and what was taken out of which version.

The record lies in datasets/erasures.jsonl of the state folder. It has digests of the person's value and of the rows,
and no text. Beside a version that lost rows lies erased.json: which rows, and the digests of the files as they are now.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from configs.strict import Strict
from delivery.build.dataset import Part
from delivery.build.layouts.row import Unusable
from delivery.build.rows import ERASED, Example, RawRow
from delivery.build.steps import RowStep, StepRecord

RECORD, BESIDE = "erasures.jsonl", "erased.json"


class Erasure(Strict):
    """One order to erase. `field` is None where rows were named by their ids."""

    id: str
    at: float  # UNIX seconds
    by: str
    reason: str
    field: str | None
    salt: str
    value: str  # keyed digest of the field's value; "" without a field
    rows: tuple[str, ...] = ()  # ids


class ErasedFiles(Strict):
    """What a version lost, and what its files are since."""

    rows: dict[Part, tuple[str, ...]]
    files: dict[str, str]  # name -> digest
    erasures: tuple[str, ...]


def read_erasures(home: Path) -> tuple[Erasure, ...]:
    """All of them; a later line on the same order replaces the one before. Raises ValueError for a damaged file."""
    path = home / "datasets" / RECORD
    if not path.is_file():
        return ()
    found = [Erasure.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple({one.id: one for one in found}.values())


def erased_files(folder: Path) -> ErasedFiles | None:
    """What a version lost; None for one that is whole."""
    path = folder / BESIDE
    return ErasedFiles.model_validate_json(path.read_bytes()) if path.is_file() else None


def erased_in(folder: Path) -> Mapping[Part, tuple[str, ...]]:
    """Part -> ids of the rows that a version lost."""
    found = erased_files(folder)
    return found.rows if found else {}


def value_digest(value: Any, salt: str) -> str:
    """Of a field's value as text, keyed: the record tells nobody who it was without the value at hand."""
    return blake2b(str(value).encode(), key=bytes.fromhex(salt), digest_size=16).hexdigest()


def value_at(data: Any, path: str) -> Any:
    """A field of a row by its name or its dotted path, of the row itself or of its `fields`; None: it has none."""
    for top in (data, data.get("fields") if isinstance(data, Mapping) else None):
        if not isinstance(top, Mapping):
            continue
        if path in top:
            return top[path]
        found: Any = top
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None


class ErasedRows:
    """Says of rows whether an erasure takes them."""

    def __init__(self, erasures: Sequence[Erasure]):
        self._values = {(one.field, one.salt): dict[str, str]() for one in erasures if one.field is not None}
        for one in erasures:
            if one.field is not None:
                self._values[one.field, one.salt][one.value] = one.id
        self._rows = {row: one.id for one in erasures for row in one.rows}

    def __bool__(self) -> bool:
        return bool(self._values or self._rows)

    def by_field(self, data: Any) -> str | None:
        """The erasure that takes a row for what one of its fields holds."""
        for (field, salt), values in self._values.items():
            value = value_at(data, str(field))
            if value is not None and (found := values.get(value_digest(value, salt))):
                return found
        return None

    def by_id(self, row: str) -> str | None:
        """The erasure that takes a row for what it says."""
        return self._rows.get(row)

    def without_text(self, raw: RawRow) -> RawRow:
        """A raw row as it was, or without its data where an erasure takes it."""
        found = self.by_field(raw.data)
        return raw if found is None else replace(raw, data=None, fault=(ERASED, f"by erasure {found}"))

    def step(self) -> RowStep:
        """Takes rows that say what an erased one said, whatever their fields are. It comes last and is not recorded."""
        return RowStep(StepRecord(name=ERASED, version=1, settings={}, code=""), self._judge)

    def _judge(self, example: Example) -> Example:
        found = self.by_id(example.id)
        if found is not None:
            raise Unusable(ERASED, f"by erasure {found}")
        return example


def write_record(home: Path, erasure: Erasure) -> None:
    """Adds a line. The caller holds the lock."""
    path = home / "datasets" / RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(erasure.model_dump(mode="json")) + "\n")
        file.flush()
