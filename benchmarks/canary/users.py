"""Users who ask again and again, in many runs at once, and who of them is still at risk in each check.

The rules of delivery.analysis.outcomes: a user counts once a tick, until the first hit, and then leaves the risk set.
"""

import numpy as np
from numpy.typing import NDArray

from delivery.analysis.wealth import Array

Mask = NDArray[np.bool_]
ACTIVITY_SPREAD = 1.0  # of the logarithm of a user's requests


class Users:
    """So many users a run, some of whom ask much more often than others."""

    def __init__(self, runs: int, users: int, checks: int):
        self._runs = runs
        self._users = users
        self._activity = np.exp(ACTIVITY_SPREAD * np.random.default_rng(0).standard_normal(users)).cumsum()
        self._gone = np.zeros((checks, runs * users), dtype=bool)
        self._mark = np.zeros(runs * users, dtype=np.int8)
        self._at = np.zeros((runs, 0), dtype=np.int64)  # this tick's users, numbered over all runs
        self._first = np.zeros((runs, 0), dtype=bool)

    def come(self, rng: np.random.Generator, requests: int) -> NDArray[np.int64]:
        """Who asks in the next tick: (runs, requests)."""
        users: NDArray[np.int64] = np.searchsorted(
            self._activity, rng.random((self._runs, requests)) * self._activity[-1]
        )
        self._at = users + np.arange(self._runs)[:, None] * self._users
        self._first = _first_of_each(users)
        return users

    def counted(self, check: int, outcome: NDArray[np.int8]) -> tuple[Mask, NDArray[np.int8]]:
        """Of outcomes (runs, requests), where 0 is no hit: which requests stand for a user, and that user's outcome.

        It is the user's first hit in the tick; who had one counts never again.
        """
        at_risk = ~self._gone[check][self._at]
        backwards = (at_risk & (outcome != 0))[:, ::-1]  # of several the one that is written last stays
        hit = self._at[:, ::-1][backwards]
        self._mark[hit] = outcome[:, ::-1][backwards]
        by_user = np.where(self._first, self._mark[self._at], np.int8(0))
        self._mark[hit] = 0
        self._gone[check][hit] = True
        return self._first & at_risk, by_user

    def leave(self, check: int) -> None:
        """For values every user counts once, whatever the value."""
        self._gone[check][self._at] = True


def split(hit: Mask, counted: Mask) -> Array:
    """(misses, hits) of those who count: (runs, 2)."""
    return np.stack([(counted & ~hit).sum(axis=1), (counted & hit).sum(axis=1)], axis=-1).astype(np.float64)


def _first_of_each(users: NDArray[np.int64]) -> Mask:
    """Where each row has a user for the first time."""
    order = np.argsort(users, axis=1, kind="stable")
    ranked = np.take_along_axis(users, order, axis=1)
    first = np.ones(users.shape, dtype=bool)
    first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    found = np.zeros_like(first)
    np.put_along_axis(found, order, first, axis=1)
    return found
