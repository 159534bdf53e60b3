"""From scores per sample to measures, differences and their intervals: pure, the same for the same samples.

Scores that are all 0 or 1 get score intervals, which hold at the ends of the scale too, where a candidate that is
always right would have no spread at all; other scores get Student's t. Measures over classes have intervals of their
own (`evals.classes`).
"""

from collections.abc import Callable, Sequence
from math import comb, sqrt
from statistics import NormalDist, fmean, stdev
from typing import Literal

from evals import classes
from evals.estimate import Estimate
from evals.report import Better, SampleScore, SuiteResult


def summarise(
    suite: str,
    version: str,
    kind: Literal["behaviour", "capability"],
    samples: Sequence[SampleScore],
    measure: str = "mean",
    better: Better = "higher",
) -> SuiteResult:
    """A suite's result: its measure over the judged samples with the 95 % interval. No judged sample, no score."""
    judged = [sample for sample in samples if sample.score is not None]
    found = estimate(measure, judged) if judged else None
    return SuiteResult(
        suite=suite,
        version=version,
        kind=kind,
        measure=measure,
        better=better,
        score=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        n=len(judged),
        unjudged=len(samples) - len(judged),
        samples=tuple(samples),
    )


def estimate(measure: str, samples: Sequence[SampleScore], confidence: float = 0.95) -> Estimate:
    """`mean`, `macro_f1` or `f1:CLASS` over samples that all have a score; there is at least one."""
    if measure == "mean":
        return mean([sample.score or 0.0 for sample in samples], confidence)
    return classes.f1(measure, samples, confidence)


def difference(
    measure: str, first: Sequence[SampleScore], second: Sequence[SampleScore], confidence: float = 0.95
) -> Estimate:
    """First minus second with its interval, paired: both hold the same samples in the same order, all with a score."""
    if measure == "mean":
        one, other = ([sample.score or 0.0 for sample in samples] for samples in (first, second))
        return paired_difference(one, other, confidence)
    return classes.f1_difference(measure, first, second, confidence)


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
        return Estimate((gained - lost) / n, *paired_bounds(gained, lost, n, confidence), n)
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return Estimate(fmean(differences), *_t_interval(differences, confidence), n)


def drop_p_value(first: Sequence[float], second: Sequence[float], margin: float = 0.0) -> float:
    """One-sided p-value against "first is not worse than second by more than the margin", which is at least 0.

    0/1 scores: the larger one of Tango's score test and the exact sign test of the pairs that differ, since the score
    test alone claims too much of a handful of pairs. Other scores: Student's t on the differences; where these have no
    spread at all, one half to the power of their number. Both sequences have the same, positive length.
    """
    n = len(first)
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if {*first, *second} <= {0.0, 1.0}:
        gained, lost = (sum(way * d > 0 for d in differences) for way in (1, -1))
        as_bad = sum(comb(gained + lost, k) for k in range(lost, gained + lost + 1))
        exact = as_bad / float(2 ** (gained + lost))
        return max(exact, NormalDist().cdf(_score_statistic(gained, lost, n, -margin)))
    value = fmean(differences)
    if n < 2 or stdev(differences) == 0:
        return float(0.5**n) if value < -margin else 1.0
    from scipy.special import stdtr

    return float(stdtr(n - 1, (value + margin) * sqrt(n) / stdev(differences)))


def paired_bounds(gained: int, lost: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's interval of the difference of two shares, from the pairs that differ, of n in all."""
    return _tango(gained, lost, n, _z(confidence))


def _tango(gained: int, lost: int, n: int, z: float) -> tuple[float, float]:
    """The differences that a score test at level z does not reject; the statistic falls as the difference grows."""
    value = (gained - lost) / n
    low = _root(lambda delta: _score_statistic(gained, lost, n, delta) - z, -1.0, value) if value > -1 else -1.0
    high = _root(lambda delta: _score_statistic(gained, lost, n, delta) + z, value, 1.0) if value < 1 else 1.0
    return low, high


def _score_statistic(gained: int, lost: int, n: int, delta: float) -> float:
    b = (2 * n - gained + lost) * delta - gained - lost
    c = -lost * delta * (1 - delta)
    lost_share = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # most likely under this difference
    variance = n * (2 * lost_share + delta * (1 - delta))
    return (gained - lost - n * delta) / sqrt(variance) if variance > 0 else 0.0


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _t_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    n, value = len(values), fmean(values)
    if n < 2:
        return value - 1, value + 1
    from scipy.special import stdtrit  # slow to import, and most scores are 0 or 1

    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * stdev(values) / sqrt(n)
    return value - half, value + half


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
