"""The candidate against the stable that runs beside it: a block e-process for rates, and for means of graded outcomes.

Null hypothesis, in every block: u_c <= ratio u_s + increase for the arms' mean rates (claim "worse"), or >= (claim
"better": the reverse null that promotion must reject). Stable's rate may drift, and blocks may have any sizes that do
not depend on their outcomes. The bets are those of delivery.analysis.bets with stable's rate estimated from earlier
blocks alone, divided by their projection onto the null (Turner, Ly, Gruenwald, JSPI 2024), mixed over start times
(delivery.analysis.wealth).

Ticks without data in both arms are kept waiting until both have some: at 5 % of a slow stream most ticks hold no
request of the candidate, and stable's would be lost for the comparison. Which ticks form a block depends on arrivals
alone. From block to block the process is a supermartingale, so it ever reaches 1/alpha with at most alpha's chance.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from configs.strict import Strict
from delivery.analysis.bets import RATE_LIFTS, Claim, Five, against_stable, log_ratios, signed, stable_rate
from delivery.analysis.wealth import Array, e_values, grow

LONGEST_WAIT = 400  # outcomes of one arm alone; more are too old to be compared, and only teach stable's rate


class Comparison(Strict):
    """What is tested. `levels` are the grades that an outcome can have: 0 and 1 for a rate."""

    ratio: float = Field(1.0, gt=0)
    increase: float = Field(0.0, ge=0)
    claim: Claim = "worse"
    lifts: Five = RATE_LIFTS
    guess: float = Field(0.05, gt=0, lt=1, description="stable's rate before anything is known")
    levels: tuple[float, ...] = Field((0.0, 1.0), min_length=2)


class Block(Strict):
    """How many outcomes of each level both arms had in a tick; for a rate (misses, hits)."""

    stable: tuple[int, ...]
    candidate: tuple[int, ...]

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if len(self.stable) != len(self.candidate) or min(self.stable + self.candidate, default=-1) < 0:
            raise ValueError(f"not two arms' counts of the same levels: {self.stable}, {self.candidate}")
        return self


def counts(stable_n: int, stable_hits: int, candidate_n: int, candidate_hits: int) -> Block:
    """A rate's block: requests (or users) and how many of them were hits."""
    stable = (stable_n - stable_hits, stable_hits)
    return Block(stable=stable, candidate=(candidate_n - candidate_hits, candidate_hits))


class TwoSample(Strict):
    """The process: what is tested and where it stands."""

    kind: Literal["two_sample"] = "two_sample"
    test: Comparison = Comparison()
    wealth: Five = (0.0, 0.0, 0.0, 0.0, 0.0)
    blocks: int = 0
    known_n: float = 0.0  # stable's outcomes in earlier blocks
    known_total: float = 0.0  # and the sum of their levels
    waiting_stable: tuple[int, ...] = ()
    waiting_candidate: tuple[int, ...] = ()


def update(process: TwoSample, block: Block) -> TwoSample:
    """One more tick. Raises ValueError for a block of other levels."""
    levels = len(process.test.levels)
    if len(block.stable) != levels:
        raise ValueError(f"a block of {len(block.stable)} levels, expected {levels}")
    none = (0,) * levels
    before = Standing(
        wealth=np.array(process.wealth),
        blocks=np.array(process.blocks),
        known_n=np.array(process.known_n),
        known_total=np.array(process.known_total),
        waiting_s=np.array(process.waiting_stable or none, dtype=np.float64),
        waiting_c=np.array(process.waiting_candidate or none, dtype=np.float64),
    )
    after = advance(process.test, before, np.array(block.stable), np.array(block.candidate))
    a, b, c, d, e = after.wealth.tolist()
    return TwoSample(
        test=process.test,
        wealth=(a, b, c, d, e),
        blocks=int(after.blocks),
        known_n=float(after.known_n),
        known_total=float(after.known_total),
        waiting_stable=tuple(int(n) for n in after.waiting_s),
        waiting_candidate=tuple(int(n) for n in after.waiting_c),
    )


def e_value(process: TwoSample) -> float:
    """The evidence for the claim; 1 before any data."""
    return float(e_values(np.array(process.wealth), process.blocks))


def learn(process: TwoSample, stable: Block) -> TwoSample:
    """Stable's outcomes from before the comparison: they sharpen the bets and are compared with nothing."""
    total = sum(n * level for n, level in zip(stable.stable, process.test.levels, strict=True))
    known = {"known_n": process.known_n + sum(stable.stable), "known_total": process.known_total + total}
    return process.model_copy(update=known)


# -- the same for many runs at once ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """Where processes of one test stand: arrays (...), wealth (..., 5), waiting outcomes (..., levels)."""

    wealth: Array
    blocks: Array
    known_n: Array
    known_total: Array
    waiting_s: Array
    waiting_c: Array

    @classmethod
    def new(cls, test: Comparison, *shape: int) -> "Standing":
        """Nothing seen yet, for an array of processes."""
        levels, zeros = (*shape, len(test.levels)), np.zeros(shape)
        return cls(np.zeros((*shape, 5)), zeros, zeros, zeros, np.zeros(levels), np.zeros(levels))

    @property
    def e(self) -> Array:
        """The E-values (...)."""
        return e_values(self.wealth, self.blocks)


def advance(test: Comparison, before: Standing, stable_counts: ArrayLike, candidate_counts: ArrayLike) -> Standing:
    """One more tick with counts (..., levels) of both arms."""
    levels = np.array(test.levels)
    stable = before.waiting_s + np.asarray(stable_counts, dtype=np.float64)
    candidate = before.waiting_c + np.asarray(candidate_counts, dtype=np.float64)
    n_s, n_c = stable.sum(axis=-1), candidate.sum(axis=-1)
    complete = (n_s > 0) & (n_c > 0)
    p_s = stable_rate(before.known_n, before.known_total, test.guess)
    lifts = signed(test.lifts, test.claim)
    factors = against_stable(p_s, np.maximum(n_s, 1), np.maximum(n_c, 1), test.ratio, test.increase, lifts)
    logs = log_ratios(stable, levels, factors.hit_s, factors.miss_s)
    logs = logs + log_ratios(candidate, levels, factors.hit_c, factors.miss_c)
    grown = grow(before.wealth, before.blocks, logs)
    done = complete | (n_s + n_c > LONGEST_WAIT)
    return Standing(
        wealth=np.where(complete[..., None], grown, before.wealth),
        blocks=before.blocks + complete,
        known_n=before.known_n + np.where(done, n_s, 0.0),
        known_total=before.known_total + np.where(done, stable @ levels, 0.0),
        waiting_s=np.where(done[..., None], 0.0, stable),
        waiting_c=np.where(done[..., None], 0.0, candidate),
    )
