"""Five bets that may also start late: the mixture that turns likelihood ratios per block into one E-process.

    A_k <- (A_k + w_t / K) * LR_k        E = sum of A_k + the weight not yet spent

w_1 = 0.8; the other 0.2 is spent over all later blocks, w_t = 0.2 ln 2 (1/ln t - 1/ln(t+1)), which sums to 0.2 and
falls no faster than 1/(t ln^2 t): breakage that begins late meets money that has not been lost yet, whatever the scale.
If every LR_k has a mean of at most 1 given the past, E is a supermartingale that starts at 1 (a mixture over start
times: Shafer, Vovk: Game-Theoretic Foundations for Probability and Finance, 2019; Vovk, Wang: E-values, 2021).

All functions work on the last axis for bets and broadcast over the others: one release or 20,000 simulated ones.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FIRST_WEIGHT = 0.8
MOST = 1e300  # wealth is cut here: a smaller E-value is still valid, an infinite one is no JSON
_LARGEST_LOG = 690.0


def unspent(blocks: ArrayLike) -> Array:
    """The weight that no bet has received after so many blocks with data in both arms: 1, 0.2, 0.126, ..."""
    t = np.asarray(blocks, dtype=np.float64)
    later: Array = (1 - FIRST_WEIGHT) * np.log(2.0) / np.log(np.maximum(t, 1.0) + 1.0)
    return np.where(t == 0, 1.0, later)


def grow(wealth: Array, blocks: ArrayLike, log_ratios: Array) -> Array:
    """The bets' wealth after one more block; `wealth` and `log_ratios` (..., K), `blocks` (...) so far."""
    t = np.asarray(blocks, dtype=np.float64)
    weight = (unspent(t) - unspent(t + 1.0))[..., None] / wealth.shape[-1]
    with np.errstate(over="ignore"):  # what becomes infinite is cut
        grown: Array = np.minimum((wealth + weight) * np.exp(np.minimum(log_ratios, _LARGEST_LOG)), MOST)
    return grown


def e_values(wealth: Array, blocks: ArrayLike) -> Array:
    """The mixture's E-value: (...)."""
    total: Array = wealth.sum(axis=-1) + unspent(blocks)
    return total
