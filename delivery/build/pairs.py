"""Candidate and production sample by sample: what counts how, and what the serving stack alone changes.

A sample that could not be judged counts against the candidate: wrong for it, right for production.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

from evals.estimate import Estimate
from evals.report import SampleScore, SuiteResult
from evals.summaries import difference


def off_the_scale(result: SuiteResult, whose: str) -> str:
    """On a scale without ends nothing says what an answer that could not be judged would count as."""
    scores = [s.score for s in result.samples]
    if None in scores and not all(0 <= score <= 1 for score in scores if score is not None):
        return f"{scores.count(None)} answers of {whose} could not be judged, on a scale that is not from 0 to 1"
    return ""


def counted(result: SuiteResult, unjudged: Literal["wrong", "right"]) -> list[SampleScore]:
    """The samples by their ids, what could not be judged counted as wrong or as right."""
    is_high = (unjudged == "right") == (result.better == "higher")
    counted = [
        s
        if s.score is not None
        else s.model_copy(update={"score": float(is_high), "said": s.expected if unjudged == "right" else ""})
        for s in result.samples
    ]
    return sorted(counted, key=lambda sample: sample.id)


def between(new: SuiteResult, old: SuiteResult, confidence: float = 0.95) -> Estimate | None:
    """New minus old as the gate compares them; None where they did not answer the same samples, or nobody judged."""
    same = {s.id for s in new.samples} == {s.id for s in old.samples} and new.measure == old.measure
    if not same or new.score is None or old.score is None or off_the_scale(new, "") or off_the_scale(old, ""):
        return None
    return difference(new.measure, counted(new, "wrong"), counted(old, "right"), confidence)


@dataclass(frozen=True)
class RunNoise:
    """How much two runs of one and the same variant differ. `spread` is the standard deviation of their difference."""

    n: int  # samples that both runs judged
    changed: int  # of them those whose score is another
    spread: float

    def widen(self, found: Estimate, confidence: float) -> Estimate:
        """The interval of a difference with the runs' own added to it: variances add up."""
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * self.spread
        low = found.value - sqrt((found.value - found.low) ** 2 + reach**2)
        high = found.value + sqrt((found.high - found.value) ** 2 + reach**2)
        return Estimate(found.value, low, high, found.n)


def noise_of(first: SuiteResult, again: SuiteResult) -> RunNoise:
    """The A/A noise from two runs of one suite.

    Of a mean each sample that changed counts by itself, so that changes both ways do not cancel out, or their shift as
    a whole where that is larger, as when a batch moves all its answers one way. Of another measure it is the difference
    of the two.
    """
    scores = {sample.id: sample.score for sample in again.samples}
    pairs = [(one.score, scores.get(one.id)) for one in first.samples]
    changes = [new - old for old, new in pairs if old is not None and new is not None]
    changed = sum(change != 0 for change in changes)
    if first.measure == "mean":
        return RunNoise(len(changes), changed, _deviation(changes))
    moved = 0.0 if first.score is None or again.score is None else abs(again.score - first.score)
    return RunNoise(len(changes), changed, moved)


def _deviation(changes: Sequence[float]) -> float:
    if not changes:
        return 0.0
    return max(sqrt(sum(change**2 for change in changes)), abs(sum(changes))) / len(changes)
