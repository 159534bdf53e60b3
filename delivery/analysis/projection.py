"""The point of a null hypothesis that is hardest to tell from a bet: its projection by Kullback-Leibler divergence.

The null's border is the line q_c = ratio * q_s + increase; both half-planes beside it are convex, and dividing a bet's
likelihood by that of its projection gives an E-variable for the half-plane that does not hold the bet (Turner, Ly,
Gruenwald: Generic E-variables for exact sequential k-sample tests that allow for optional stopping, Journal of
Statistical Planning and Inference 230, 2024, theorem 1). The reason is short. With true rates (u_s, u_c)

    ln E[LR] = sum over arms j of n_j ln(u_j p_j/q_j + (1-u_j) (1-p_j)/(1-q_j))

is concave in u, 0 at u = q, and its slope there is minus the slope of the divergence in q, which points out of the
null as q is the minimum. Hence ln E[LR] <= 0 on all of the null; by concavity also when rates differ from request to
request and only their means over the block obey the null; and, as only means enter, for values in [0, 1] too.
"""

import numpy as np
from numpy.typing import ArrayLike

from delivery.analysis.wealth import Array

NEAREST = 1e-12  # rates stay this far from 0 and 1
_STEPS = 80


def logit(p: ArrayLike) -> Array:
    """Log odds."""
    rate = np.asarray(p, dtype=np.float64)
    return np.log(rate) - np.log1p(-rate)


def expit(x: ArrayLike) -> Array:
    """The rate that has these log odds."""
    return 1.0 / (1.0 + np.exp(-np.asarray(x, dtype=np.float64)))


def project(
    p_s: ArrayLike, p_c: ArrayLike, n_s: ArrayLike, n_c: ArrayLike, ratio: float = 1.0, increase: float = 0.0
) -> tuple[Array, Array]:
    """Minimises n_s KL(p_s, q_s) + n_c KL(p_c, q_c) over the line q_c = ratio q_s + increase. Broadcasts.

    Needs n_s > 0, n_c > 0, ratio > 0, and a line that crosses the open unit square.
    """
    p_s, p_c, n_s, n_c = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (p_s, p_c, n_s, n_c)))
    if ratio == 1.0 and increase == 0.0:
        both = (n_s * p_s + n_c * p_c) / (n_s + n_c)
        return both, both
    q_s = _on_the_line(p_s, p_c, n_s, n_c, ratio, increase)
    return q_s, ratio * q_s + increase


def _on_the_line(p_s: Array, p_c: Array, n_s: Array, n_c: Array, ratio: float, increase: float) -> Array:
    """The root along the line of the divergence's slope times x (1-x), which is nearly straight: Newton's steps.

    The root lies between the points of the line that one arm alone would choose; a step out of what is left of that
    bracket is replaced by halving it.
    """
    alone = (p_c - increase) / ratio
    lowest, highest = max(0.0, -increase / ratio), min(1.0, (1.0 - increase) / ratio)
    low = np.clip(np.minimum(p_s, alone), lowest, highest)
    high = np.clip(np.maximum(p_s, alone), lowest, highest)
    x = np.clip((n_s * p_s + ratio**2 * n_c * alone) / (n_s + ratio**2 * n_c), low, high)
    x = np.where((x <= lowest) | (x >= highest), (low + high) / 2, x)
    for _ in range(_STEPS):
        y = ratio * x + increase
        spread_s, spread_c = x * (1 - x), y * (1 - y)
        weight = ratio * n_c * spread_s / spread_c
        slope = n_s * (x - p_s) + weight * (y - p_c)
        rise = n_s + weight * (ratio + (y - p_c) * ((1 - 2 * x) / spread_s - ratio * (1 - 2 * y) / spread_c))
        low, high = np.where(slope < 0, x, low), np.where(slope > 0, x, high)
        step = x - slope / np.where(rise > 0, rise, np.inf)
        following = np.where((step >= low) & (step <= high) & (rise > 0), step, (low + high) / 2)
        done = np.abs(following - x) <= 1e-13 * x
        x = following
        if done.all():
            break
    return x
