"""Users who stick to their variant, some of them unlucky for ever: one user's failures are no independent evidence."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.canary.simulate import ALPHA, CHUNK
from delivery.analysis.two_sample import Comparison, Standing, advance

USERS = 400
SHARE = 0.05
REQUESTS = 40  # per tick
UNLUCKY, THEIR_RATE, USUAL_RATE = 0.03, 0.5, 0.002
ACTIVITY_SPREAD = 1.0  # of the logarithm of a user's requests


def false_rollbacks(runs: int, ticks: int, seed: int) -> tuple[float, float]:
    """Shares of runs with an equal candidate that one check of level alpha rolls back.

    Counting first failures of users at risk, and, for contrast, every request.
    """
    by_user, by_request = [], []
    for start in range(0, runs, CHUNK):
        ours, naive = _chunk(min(CHUNK, runs - start), ticks, np.random.default_rng([seed, start]))
        by_user.append(ours)
        by_request.append(naive)
    return float(np.concatenate(by_user).mean()), float(np.concatenate(by_request).mean())


def _chunk(runs: int, ticks: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    test = Comparison()
    ours, naive = Standing.new(test, runs), Standing.new(test, runs)
    candidate = rng.random((runs, USERS)) < SHARE
    rate = np.where(rng.random((runs, USERS)) < UNLUCKY, THEIR_RATE, USUAL_RATE)
    activity = np.exp(ACTIVITY_SPREAD * np.random.default_rng(0).standard_normal(USERS)).cumsum()
    at_risk = np.ones((runs, USERS), dtype=bool)
    ours_ever, naive_ever = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for _ in range(ticks):
        users = np.searchsorted(activity, rng.random((runs, REQUESTS)) * activity[-1])
        failed = rng.random((runs, REQUESTS)) < np.take_along_axis(rate, users, axis=1)
        arm = np.take_along_axis(candidate, users, axis=1)
        naive = advance(test, naive, _split(failed, ~arm), _split(failed, arm))
        seen, hit = np.zeros_like(at_risk), np.zeros_like(at_risk)
        np.put_along_axis(seen, users, True, axis=1)
        rows, columns = np.nonzero(failed)
        hit[rows, users[rows, columns]] = True
        seen &= at_risk
        ours = advance(test, ours, _split(hit, seen & ~candidate), _split(hit, seen & candidate))
        at_risk &= ~hit
        ours_ever |= ours.e >= 1 / ALPHA
        naive_ever |= naive.e >= 1 / ALPHA
    return ours_ever, naive_ever


def _split(hit: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(misses, hits) of those who count: (runs, 2)."""
    return np.stack([(counted & ~hit).sum(axis=1), (counted & hit).sum(axis=1)], axis=-1)
