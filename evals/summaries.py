"""From scores per sample to means, differences and their intervals; pure, and closed-form but for two bisections.

Scores that are all 0 or 1 get score intervals, which hold at the ends of the scale too, where a candidate that is
always right would have no spread at all; other scores get Student's t.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import Literal

from evals.report import SampleScore, SuiteResult


@dataclass(frozen=True)
class Estimate:
    """A value with its two-sided interval; n is how many values, or pairs, it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def summarise(
    suite: str, version: str, kind: Literal["behaviour", "capability"], samples: Sequence[SampleScore]
) -> SuiteResult:
    """A suite's result: the mean over the judged samples with its 95 % interval. No judged sample, no score."""
    scores = [sample.score for sample in samples if sample.score is not None]
    estimate = mean(scores) if scores else None
    return SuiteResult(
        suite=suite,
        version=version,
        kind=kind,
        score=estimate.value if estimate else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        n=len(scores),
        unjudged=len(samples) - len(scores),
        samples=tuple(samples),
    )


def mean(scores: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean with Wilson's score interval (JASA 1927) when all scores are 0 or 1, otherwise with Student's t.

    `scores` is not empty. One score that is neither 0 nor 1 says nothing about its spread: its interval is unbounded,
    which is here [-1, 1] around it.
    """
    n, value = len(scores), fmean(scores)
    if not set(scores) <= {0.0, 1.0}:
        return Estimate(value, *_t_interval(scores, confidence), n)
    z = _z(confidence)
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return Estimate(value, max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half)), n)


def paired_difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of first minus second, sample by sample, with its interval.

    0/1 scores: Tango's score interval (Statistics in Medicine 17, 1998), which keeps its coverage with few samples and
    without any discordant pair; then its half width is z^2 / (n + z^2), so 40 pairs that agree still say no more than
    "within 0.09". Other scores: Student's t on the differences. Both sequences have the same, positive length.
    """
    n = len(first)
    if {*first, *second} <= {0.0, 1.0}:
        gained = sum(a > b for a, b in zip(first, second, strict=True))
        lost = sum(a < b for a, b in zip(first, second, strict=True))
        return Estimate((gained - lost) / n, *_tango(gained, lost, n, _z(confidence)), n)
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return Estimate(fmean(differences), *_t_interval(differences, confidence), n)


def _tango(gained: int, lost: int, n: int, z: float) -> tuple[float, float]:
    """The differences that a score test at level z does not reject; the statistic falls as the difference grows."""
    value = (gained - lost) / n

    def statistic(delta: float) -> float:
        b = (2 * n - gained + lost) * delta - gained - lost
        c = -lost * delta * (1 - delta)
        lost_share = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # most likely under this difference
        variance = n * (2 * lost_share + delta * (1 - delta))
        return (gained - lost - n * delta) / sqrt(variance) if variance > 0 else 0.0

    low = _root(lambda delta: statistic(delta) - z, -1.0, value) if value > -1 else -1.0
    high = _root(lambda delta: statistic(delta) + z, value, 1.0) if value < 1 else 1.0
    return low, high


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _t_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    n, value = len(values), fmean(values)
    if n < 2:
        return value - 1, value + 1
    from scipy.stats import t  # a second to import, and most scores are 0 or 1

    half = float(t.ppf((1 + confidence) / 2, n - 1)) * stdev(values) / sqrt(n)
    return value - half, value + half


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
