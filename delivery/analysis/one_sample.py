"""The candidate against an absolute limit, and stable against the same one, so that a shared incident is seen as one.

Null hypothesis: the rate is at most the limit (claim "worse"), or at least (claim "better"), in every block. The bets
are fixed odds against the limit (delivery.analysis.bets.against_limit), so their first wealth depends on cumulative
counts alone; late starts are mixed in as everywhere. A quantile limit is such a rate: p95 <= x is P(L > x) <= 0.05.
Outcomes may have grades between miss and hit; the mean is then tested (delivery.analysis.pairs).

An absolute limit knows no stable: when both arms suffer, the candidate alone would be blamed. Stable's own E-value
against the limit tells (delivery.analysis.family).
"""

from typing import Literal

import numpy as np
from pydantic import Field

from configs.strict import Strict
from delivery.analysis.bets import RATE_LIFTS, Claim, Five, against_limit, log_ratios, signed
from delivery.analysis.two_sample import Block
from delivery.analysis.wealth import Array, e_values, grow


class Limit(Strict):
    """What is tested."""

    limit: float = Field(gt=0, lt=1, description="of the rate")
    claim: Claim = "worse"
    lifts: Five = RATE_LIFTS
    levels: tuple[float, ...] = Field((0.0, 1.0), min_length=2, description="the grades that an outcome can have")


class OneSample(Strict):
    """The process: what is tested, and where candidate and stable stand."""

    kind: Literal["one_sample"] = "one_sample"
    test: Limit
    wealth: Five = (0.0, 0.0, 0.0, 0.0, 0.0)
    blocks: int = 0
    stable_wealth: Five = (0.0, 0.0, 0.0, 0.0, 0.0)
    stable_blocks: int = 0


def update(process: OneSample, block: Block) -> OneSample:
    """One more tick, counts by level of both arms; an arm without data does not move."""
    if len(block.stable) != len(process.test.levels):
        raise ValueError(f"a block of {len(block.stable)} levels, expected {len(process.test.levels)}")
    wealth, blocks = _grown(process.test, process.wealth, process.blocks, block.candidate)
    stable_wealth, stable_blocks = _grown(process.test, process.stable_wealth, process.stable_blocks, block.stable)
    return OneSample(
        test=process.test, wealth=wealth, blocks=blocks, stable_wealth=stable_wealth, stable_blocks=stable_blocks
    )


def e_value(process: OneSample) -> float:
    """The evidence for the claim about the candidate; 1 before any data."""
    return float(e_values(np.array(process.wealth), process.blocks))


def stable_e_value(process: OneSample) -> float:
    """The evidence for the same claim about stable."""
    return float(e_values(np.array(process.stable_wealth), process.stable_blocks))


def advance(test: Limit, wealth: Array, blocks: Array, outcomes: Array) -> tuple[Array, Array]:
    """One arm of many runs: wealth (..., 5), blocks (...), outcomes (..., levels) as counts."""
    hit, miss = against_limit(test.limit, signed(test.lifts, test.claim))
    some = outcomes.sum(axis=-1) > 0
    grown = grow(wealth, blocks, log_ratios(outcomes, np.array(test.levels), hit, miss))
    return np.where(some[..., None], grown, wealth), blocks + some


def _grown(test: Limit, wealth: Five, blocks: int, outcomes: tuple[int, ...]) -> tuple[Five, int]:
    grown, number = advance(test, np.array(wealth), np.array(blocks), np.array(outcomes, dtype=np.float64))
    a, b, c, d, e = grown.tolist()
    return (a, b, c, d, e), int(number)
