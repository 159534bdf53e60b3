"""Rows that say nearly the same: MinHash (Broder 1997) finds the candidates, and their texts are then compared exactly.

Of each row only its band keys stay in memory, some 100 bytes: datasketch's own index would hold a million rows in
several GiB. Two rows are compared by the share of their runs of three words that both have.
"""

import re
import zlib
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.filters import NearDuplicateFilter

VERSION = 1
PACKAGES = ("datasketch",)
RUN_WORDS = 3
PERMUTATIONS = 128
MISSED, FOUND = 0.9, 0.1  # recall counts for more than precision: what is found is compared exactly
MOST_KEPT = 100  # rows of one band that a row is compared with
CACHED = 20_000  # sets of runs
_WORD = re.compile(r"\w+")

TextOf = Callable[[int], str]


@dataclass(frozen=True)
class Twin:
    """A row that goes because of another one; both by their number among the kept rows."""

    row: int
    of: int
    similarity: float


class NearDuplicates:
    """Takes the kept rows in their order, then says which of them say nearly the same as another one."""

    def __init__(self, settings: NearDuplicateFilter):
        from datasketch import MinHash, MinHashLSH

        self.settings = settings
        index = MinHashLSH(threshold=settings.similarity, num_perm=PERMUTATIONS, weights=(FOUND, MISSED))
        self._bands, self._width = index.b, index.r
        self._empty = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)
        self._keys = array("Q")
        self._rng_weights = np.random.default_rng(17).integers(1, 2**63, size=self._width, dtype=np.uint64) | np.uint64(
            1
        )

    def add(self, text: str) -> None:
        """The next row's text."""
        signature = self._empty.copy()
        signature.update_batch([run.encode() for run in runs(text)])
        values = signature.hashvalues[: self._bands * self._width].astype(np.uint64).reshape(self._bands, self._width)
        mixed = values * self._rng_weights  # wraps around: a hash of each band
        keys = np.bitwise_xor.reduce(mixed ^ (mixed >> np.uint64(29)), axis=1)
        self._keys.frombytes(keys.tobytes())

    def __len__(self) -> int:
        return len(self._keys) // int(self._bands)

    def twins(self, text_of: TextOf, held: Sequence[bool]) -> Iterator[Twin]:
        """In the order of the rows. `held`: which rows are held out. A row that stays is nobody's twin.

        Everywhere: of rows that say nearly the same the first stays. Across the split: held-out rows all stay, and a
        row to train on goes where it is near one of them.
        """
        shared = self._shared()
        across = self.settings.scope == "across-split"
        order = sorted(shared, key=lambda row: (not held[row], row)) if across else sorted(shared)
        sets = _Cache(text_of)
        stay: dict[tuple[int, int], list[int]] = defaultdict(list)
        found = []
        for row in order:
            near = self._nearest(row, shared[row], stay, sets) if not (across and held[row]) else None
            if near is not None:
                found.append(near)
            elif not across or held[row]:
                for place in shared[row]:
                    if len(stay[place]) < MOST_KEPT:
                        stay[place].append(row)
        yield from sorted(found, key=lambda twin: twin.row)

    def _nearest(
        self, row: int, places: Sequence[tuple[int, int]], stay: dict[tuple[int, int], list[int]], sets: "_Cache"
    ) -> Twin | None:
        candidates = sorted({other for place in places for other in stay.get(place, ())})
        near = [(similarity(sets[row], sets[other]), -other) for other in candidates]
        best, other = max(near, default=(0.0, 0))
        return Twin(row, -other, best) if near and best >= self.settings.similarity else None

    def _shared(self) -> dict[int, list[tuple[int, int]]]:
        """Row -> (band, key) of the bands in which some other row has the same key."""
        table = np.frombuffer(self._keys, dtype=np.uint64).reshape(-1, self._bands)
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for band in range(self._bands):
            column = np.ascontiguousarray(table[:, band])
            order = np.argsort(column, kind="stable")
            ordered = column[order]
            same = ordered[1:] == ordered[:-1]
            twice = np.zeros(len(column), dtype=bool)
            twice[order[1:][same]] = True
            twice[order[:-1][same]] = True
            for row in np.flatnonzero(twice).tolist():
                found[row].append((band, int(column[row])))
        return found


class _Cache:
    """The runs of rows, the last ones that were asked for."""

    def __init__(self, text_of: TextOf):
        self._text_of = text_of
        self._sets: OrderedDict[int, set[str]] = OrderedDict()

    def __getitem__(self, row: int) -> set[str]:
        if row not in self._sets:
            self._sets[row] = runs(self._text_of(row))
            if len(self._sets) > CACHED:
                self._sets.popitem(last=False)
        self._sets.move_to_end(row)
        return self._sets[row]


def runs(text: str) -> set[str]:
    """All runs of three words; a shorter text is one run."""
    words = _WORD.findall(text.casefold())
    if len(words) <= RUN_WORDS:
        return {" ".join(words) or text}
    return {" ".join(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1)}


def similarity(first: set[str], second: set[str]) -> float:
    """Jaccard's: what both have as a share of what either has."""
    both = len(first & second)
    return both / (len(first) + len(second) - both)


def text_of_row(row: dict[str, Any], compare: str) -> str:
    """What of a row of train.jsonl or holdout.jsonl is compared."""
    messages = row["messages"] if "messages" in row else row["prompt"]
    if compare == "prompt":
        return str(next(one["content"] for one in messages if one["role"] == "user"))
    said = [*messages, *row.get("chosen", ()), *row.get("rejected", ())]
    return "\n".join(one["content"] for one in said if one["role"] != "system")
