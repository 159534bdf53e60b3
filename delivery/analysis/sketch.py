"""What is remembered of stable's past values: counts in buckets 2 % wide, enough for quantiles and ranks.

Rounding costs a little power and no validity: whatever threshold or ranking is drawn from the past, it is fixed before
the block that it judges.
"""

import math
from collections.abc import Iterable

from pydantic import Field

from configs.strict import Strict

GROWTH = 1.02
SMALLEST = 1e-4
_LOG_GROWTH = math.log(GROWTH)


class Sketch(Strict):
    """Positive values (seconds, tokens): bucket i holds SMALLEST * GROWTH**i up to the next."""

    counts: dict[int, int] = Field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many values it holds."""
        return sum(self.counts.values())

    def with_values(self, values: Iterable[float]) -> "Sketch":
        """The sketch with more values. Raises ValueError for NaN, infinite and negative ones."""
        counts = dict(self.counts)
        for value in values:
            index = bucket_of(value)
            counts[index] = counts.get(index, 0) + 1
        return Sketch.model_construct(counts=counts)  # made here: checking hundreds of buckets per tick again is slow

    def quantile(self, q: float) -> float | None:
        """The middle of the bucket with the sample quantile; None when empty."""
        rank, seen = max(1, math.ceil(q * self.n)), 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                return float(SMALLEST * GROWTH ** (index + 0.5))
        return None

    def ranks(self, values: Iterable[float]) -> list[float]:
        """The share of the sketch below each value, ties counted half: 0..1. Raises ValueError when empty."""
        n, seen = self.n, 0
        if not n:
            raise ValueError("no values to rank against")
        below: list[tuple[int, float]] = []
        for index in sorted(self.counts):
            below.append((index, (seen + self.counts[index] / 2) / n))
            seen += self.counts[index]
        return [_rank(below, self.counts, bucket_of(value), n) for value in values]


def bucket_of(value: float) -> int:
    """A value's bucket; everything below SMALLEST shares bucket 0."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{value} is no value that can be ranked")
    return 0 if value <= SMALLEST else int(math.log(value / SMALLEST) / _LOG_GROWTH + 1e-9)


def _rank(below: list[tuple[int, float]], counts: dict[int, int], index: int, n: int) -> float:
    """By bisection: the middle rank of the bucket, or what lies below it where it is empty."""
    low, high = 0, len(below)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if below[middle][0] < index else (low, middle)
    if low < len(below) and below[low][0] == index:
        return below[low][1]
    return 0.0 if low == 0 else below[low - 1][1] + counts[below[low - 1][0]] / 2 / n
