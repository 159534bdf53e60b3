"""A quantile against stable's: the candidate exceeds when L > ratio x + increase, stable when L > x.

x is the quantile of stable's past values, fixed before the block; both events have the rate 1 - q when the candidate is
exactly at its limit, and are compared as rates of one block (delivery.analysis.two_sample with ratio 1). An absolute
limit needs nothing of this: p95 <= X is delivery.analysis.one_sample with limit 0.05 and hits L > X.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.strict import Strict
from delivery.analysis import two_sample
from delivery.analysis.bets import TAIL_LIFTS, Claim
from delivery.analysis.sketch import Sketch
from delivery.analysis.two_sample import Block, Comparison, TwoSample

ENOUGH_PAST = 20  # of stable's values, before a quantile is taken from them


class RelativeQuantile(Strict):
    """The process: x comes from `past`, the exceedances' comparison is `rate`."""

    kind: Literal["relative_quantile"] = "relative_quantile"
    quantile: float = Field(0.95, gt=0, lt=1)
    ratio: float = Field(1.0, gt=0)
    increase: float = Field(0.0, ge=0, description="in the unit of the values")
    past: Sketch = Sketch()
    rate: TwoSample

    @model_validator(mode="after")
    def _exceedances(self) -> Self:
        if self.rate.test.ratio != 1.0 or self.rate.test.increase != 0.0:
            raise ValueError("the limit belongs to the values: give ratio and increase of the quantile")
        return self


def relative_quantile(
    quantile: float = 0.95, ratio: float = 1.0, increase: float = 0.0, claim: Claim = "worse"
) -> RelativeQuantile:
    """A process that has seen nothing yet."""
    test = Comparison(claim=claim, lifts=TAIL_LIFTS, guess=1 - quantile)
    return RelativeQuantile(quantile=quantile, ratio=ratio, increase=increase, rate=TwoSample(test=test))


def limits(process: RelativeQuantile) -> tuple[float, float] | None:
    """(stable's, the candidate's) limit for the next block; None while too little of stable's past is known."""
    x = process.past.quantile(process.quantile)
    if x is None or process.past.n < ENOUGH_PAST:
        return None
    return x, process.ratio * x + process.increase


def update(process: RelativeQuantile, block: Block, stable_values: tuple[float, ...]) -> RelativeQuantile:
    """One more tick: exceedances (misses, hits) of `limits(process)`, and stable's values for the limits after it.

    While there are no limits the block must be empty.
    """
    if limits(process) is None and any(block.stable + block.candidate):
        raise ValueError("exceedances cannot be counted before there is a limit")
    return process.model_copy(
        update={"past": process.past.with_values(stable_values), "rate": two_sample.update(process.rate, block)}
    )


def e_value(process: RelativeQuantile) -> float:
    """The evidence for the claim; 1 before any data."""
    return two_sample.e_value(process.rate)
