"""The rows that were kept so far, in a file: who of them is held out, and who goes after all, is known when all are."""

import json
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from configs.canonical import canonical_json
from configs.filters import NearDuplicateFilter
from delivery.build.rows import Example, Rejected
from tasks.data.filters.near_duplicates import NearDuplicates, text_of_row


class KeptRows:
    """Written row by row, then read. Where near duplicates are looked for, each row's place is remembered, too."""

    def __init__(self, path: Path, near: NearDuplicateFilter | None):
        self.path = path
        self._file = path.open("wb")
        self._settings = near
        self._near = NearDuplicates(near) if near is not None else None
        self._sources: list[str] = []
        self._offsets, self._places = array("Q"), array("Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, example: Example) -> None:
        """The next row."""
        row = example.as_row()
        if self._near is not None and self._settings is not None:
            if not self._sources or self._sources[-1] != example.source:
                self._sources.append(example.source)
            self._places.append(len(self._sources) - 1 << 40 | example.row)
            self._offsets.append(self._file.tell())
            self._near.add(text_of_row(row, self._settings.compare))
        self._file.write(canonical_json(row) + b"\n")

    def lines(self) -> Iterator[bytes]:
        """All of them, in their order."""
        with self.path.open("rb") as file:
            yield from file

    def near_duplicates(self, held: Sequence[bool]) -> Iterator[tuple[int, dict[str, Any], Rejected]]:
        """Number, row and reason of each row that says nearly the same as one that stays."""
        if self._near is None or self._settings is None:
            return
        compare = self._settings.compare
        parts = ("training part", "held-out part")
        with closing(self.path.open("rb")) as file:

            def row_of(number: int) -> dict[str, Any]:
                file.seek(self._offsets[number])
                found: dict[str, Any] = json.loads(file.readline())
                return found

            twins = self._near.twins(lambda number: text_of_row(row_of(number), compare), held)
            for twin in twins:
                row, (source, number) = row_of(twin.row), self._place(twin.row)
                first_source, first = self._place(twin.of)
                where = f"row {first} of {first_source} ({row_of(twin.of)['id']}, {parts[held[twin.of]]})"
                shared = f"it shares {twin.similarity:.0%} of its runs of 3 words with {where}"
                detail = f"{shared}; it was for the {parts[held[twin.row]]}"
                yield twin.row, row, Rejected(source, number, "near-duplicate", detail, row)

    def _place(self, row: int) -> tuple[str, int]:
        place = self._places[row]
        return self._sources[place >> 40], place & (1 << 40) - 1
