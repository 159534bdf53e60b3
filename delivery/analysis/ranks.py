"""Typical latency (or length): a rank e-process on y = F_s((L - increase) / ratio).

F_s is the distribution of stable's past values, fixed before the block. Ranks of the candidate's values against
stable's past alone would not do: an error of F_s stays the same for many requests, and a test that takes ranks for
uniform mistakes it for a slow candidate. So stable's values of the same block are ranked too, y_s = F_s(L_s), and the
means of y_c and y_s are compared as graded outcomes (delivery.analysis.two_sample): if (L_c - increase) / ratio is
stochastically at most L_s, then mean y_c <= mean y_s for whatever F_s, exactly. It is the Mann-Whitney comparison as an
e-process.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from configs.strict import Strict
from delivery.analysis import two_sample
from delivery.analysis.bets import TAIL_LIFTS, Claim
from delivery.analysis.quantiles import ENOUGH_PAST
from delivery.analysis.sketch import Sketch
from delivery.analysis.two_sample import Block, Comparison, TwoSample

GRADES = 20
LEVELS = tuple((grade + 0.5) / GRADES for grade in range(GRADES))


class Typical(Strict):
    """The process: ranks come from `past`, the comparison of their means is `mean`."""

    kind: Literal["typical"] = "typical"
    ratio: float = Field(1.0, gt=0)
    increase: float = Field(0.0, ge=0, description="in the unit of the values")
    past: Sketch = Sketch()
    mean: TwoSample


def typical(ratio: float = 1.0, increase: float = 0.0, claim: Claim = "worse") -> Typical:
    """A process that has seen nothing yet."""
    test = Comparison(claim=claim, lifts=TAIL_LIFTS, guess=0.5, levels=LEVELS)
    return Typical(ratio=ratio, increase=increase, mean=TwoSample(test=test))


def update(process: Typical, stable: tuple[float, ...], candidate: tuple[float, ...]) -> Typical:
    """One more tick of values. While too little of stable's past is known, the values only teach it."""
    past = process.past.with_values(stable)
    if process.past.n < ENOUGH_PAST:
        return process.model_copy(update={"past": past})
    scaled = [max(0.0, (value - process.increase) / process.ratio) for value in candidate]
    block = Block(stable=_graded(process.past.ranks(stable)), candidate=_graded(process.past.ranks(scaled)))
    return process.model_copy(update={"past": past, "mean": two_sample.update(process.mean, block)})


def e_value(process: Typical) -> float:
    """The evidence for the claim; 1 before any data."""
    return two_sample.e_value(process.mean)


def _graded(ranks: Iterable[float]) -> tuple[int, ...]:
    tally = [0] * GRADES
    for rank in ranks:
        tally[min(int(rank * GRADES), GRADES - 1)] += 1
    return tuple(tally)
