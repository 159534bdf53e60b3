"""What the five bets of a test say, and by what every outcome multiplies them: the formulas, on arrays.

Shapes are (...) for runs or blocks and (..., 5) for bets. An outcome is a level y in [0, 1]: 0 and 1 for a rate; grades
between for ranks and means, where the factor y p/q + (1-y) (1-p)/(1-q) is linear in y, so that its mean depends on the
mean of y alone and every argument about rates holds for means.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from delivery.analysis.projection import NEAREST, expit, logit, project
from delivery.analysis.wealth import Array

Claim = Literal["worse", "better"]
Five = tuple[float, float, float, float, float]
RATE_LIFTS: Five = (0.7, 1.4, 2.3, 3.6, 7.0)
TAIL_LIFTS: Five = (0.3, 0.6, 1.2, 2.4, 4.8)  # where a small change of the rate matters: quantiles and ranks
PRIOR_REQUESTS = 10.0


@dataclass(frozen=True)
class Factors:
    """What a hit and a miss multiply a bet by, for stable and for the candidate: four arrays (..., 5)."""

    hit_s: Array
    miss_s: Array
    hit_c: Array
    miss_c: Array


def signed(lifts: Five, claim: Claim) -> Array:
    """The lifts in the direction of the claim: (5,)."""
    return np.array(lifts) if claim == "worse" else -np.array(lifts)


def stable_rate(n: ArrayLike, total: ArrayLike, guess: float) -> Array:
    """Stable's rate from its past, drawn towards a guess with the weight of ten requests: never 0 or 1."""
    return (np.asarray(total, dtype=np.float64) + PRIOR_REQUESTS * guess) / (np.asarray(n) + PRIOR_REQUESTS)


def against_stable(p_s: Array, n_s: Array, n_c: Array, ratio: float, increase: float, lifts: Array) -> Factors:
    """Bets that stable has the rate p_s and the candidate expit(logit(ratio p_s + increase) + lift).

    Divided by their projection onto the border, which needs n_s > 0 and n_c > 0. Where the border is at 1 nothing can
    be worse, and those bets stay at home.
    """
    rate = p_s[..., None]
    border = ratio * rate + increase
    if increase >= 1:
        one = np.ones(np.broadcast_shapes(border.shape, lifts.shape))
        return Factors(one, one, one, one)
    p_k = _lifted(np.clip(border, NEAREST, 1 - NEAREST), lifts)
    q_s, q_c = project(rate, p_k, n_s[..., None], n_c[..., None], ratio, increase)
    factors = Factors(rate / q_s, (1 - rate) / (1 - q_s), p_k / q_c, (1 - p_k) / (1 - q_c))
    home = (border >= 1 - NEAREST) & (lifts > 0)
    if not home.any():
        return factors
    return Factors(*(np.where(home, 1.0, factor) for factor in vars(factors).values()))


def against_limit(limit: float, lifts: Array) -> tuple[Array, Array]:
    """The factors of a hit and of a miss for bets on expit(logit(limit) + lift): (5,) each.

    Betting a fixed share of the wealth on every request (Waudby-Smith, Ramdas: Estimating means of bounded random
    variables by betting, JRSS B 86, 2024). Inside the null the mean of each factor only falls.
    """
    p = _lifted(np.array(limit), lifts)
    return p / limit, (1 - p) / (1 - limit)


def log_ratios(counts: Array, levels: Array, hit: Array, miss: Array) -> Array:
    """ln of the product over one arm's outcomes: counts (..., m) of levels (m,) give (..., 5)."""
    factors = levels * hit[..., None] + (1 - levels) * miss[..., None]
    logs: Array = (np.log(factors) * counts[..., None, :]).sum(axis=-1)
    return logs


def _lifted(p: Array, lifts: Array) -> Array:
    lifted: Array = np.clip(expit(logit(p) + lifts), NEAREST, 1 - NEAREST)
    return lifted
