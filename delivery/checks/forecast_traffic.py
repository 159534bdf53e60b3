"""What traffic a plan is tried on before there is any: how often each outcome of a check would come, for an effect.

Values are lognormal with a spread of 0.8, their p95 as assumed: 3.7 times the median, as answers of language models
are. An effect is the candidate's rate, the share of pairs that it loses (ties as half), or how many times larger than
stable's its values are. Pairs are taken for independent: what both answers to one request have in common only makes the
real test sharper.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr, ndtri

from configs.checks import EQUAL, Check
from delivery.analysis.ranks import GRADES
from delivery.analysis.wealth import Array
from delivery.checks.measurement import TAIL

SPREAD = 0.8
SWAYED = 0.3  # of the judged pairs, where nothing follows from the judge's choice
TIES = 0.2  # of an equal candidate's other pairs
EFFECTS = 12
LARGEST_FACTOR = 30.0
_Z95 = float(ndtri(1 - TAIL))
_MIDDLES = ndtri((np.arange(400) + 0.5) / 400)


@dataclass(frozen=True)
class Assumed:
    """What is known of stable by a reading's name: its rate, 0..1, or the p95 of its values; else what is usual."""

    known: dict[str, float] = field(default_factory=dict)

    def of(self, check: Check) -> float:
        """Stable's rate of a check, or the p95 of its values in their unit."""
        return self.known.get(check.reads.name, check.reads.usual)


def effects(check: Check, assumed: Assumed) -> Array:
    """What a candidate may be like, from equal (first) over the limit to the worst: rates, or factors of values."""
    if check.kind == "preference":
        return np.concatenate([[EQUAL], np.geomspace(check.max or EQUAL, 1.0, EFFECTS + 1)[1:]])
    if check.kind == "rate":
        p = assumed.of(check)
        limit = check.max if check.max is not None else min(check.ratio * p + check.increase, 1.0)
        worse = np.geomspace(max(limit, 1e-4), 1.0, EFFECTS + 1)[1:]
        return np.concatenate([[p], worse])
    p95 = assumed.of(check)
    usual = p95 if check.kind == "p95" else p95 * math.exp(-SPREAD * _Z95)
    limit = check.max if check.max is not None else check.ratio * usual + check.increase
    at_limit = max(limit / usual, 1.0)
    return np.concatenate([[1.0], np.geomspace(at_limit, at_limit * LARGEST_FACTOR, EFFECTS + 1)[1:]])


def outcomes(check: Check, assumed: Assumed, effect: Array, *, paired: bool) -> tuple[Array, Array]:
    """Probabilities of the test's levels: stable's (levels,), the candidate's or the pairs' (effects, levels)."""
    if check.kind == "preference":
        won = (1 - effect) * (1 - TIES)
        return np.zeros(3), np.stack([won, 2 * (1 - effect) * TIES, effect - (1 - effect) * TIES], axis=-1)
    if check.kind == "rate":
        p, q = assumed.of(check), effect
        if paired:
            return np.zeros(4), np.stack([(1 - p) * (1 - q), (1 - p) * q, p * (1 - q), p * q], axis=-1)
        return _two(np.array(p)), _two(q)
    p95 = assumed.of(check)
    middle = math.log(p95) - SPREAD * _Z95
    if paired:
        others = check.ratio * np.exp(middle + SPREAD * _MIDDLES) + check.increase
        beyond = _above(others[None, :], middle, effect[:, None]).mean(axis=1)
        return np.zeros(3), np.stack([1 - beyond, np.zeros_like(beyond), beyond], axis=-1)
    if check.kind == "typical" and check.is_relative:
        edges = np.exp(middle + SPREAD * ndtri(np.arange(1, GRADES) / GRADES))
        beyond = _above((check.ratio * edges + check.increase)[None, :], middle, effect[:, None])
        down = np.concatenate([np.ones((len(effect), 1)), beyond, np.zeros((len(effect), 1))], axis=1)
        return np.full(GRADES, 1 / GRADES), -np.diff(down, axis=1)
    if check.max is not None:
        return _two(_above(np.array(check.max), middle, np.array(1.0))), _two(_above(check.max, middle, effect))
    return _two(np.array(TAIL)), _two(_above(check.ratio * p95 + check.increase, middle, effect))


def _two(rate: Array) -> Array:
    return np.stack([1 - rate, rate], axis=-1)


def _above(value: Array | float, middle: float, factor: Array) -> Array:
    """P(factor * L > value)."""
    share: Array = ndtr((middle + np.log(factor) - np.log(value)) / SPREAD)
    return share
