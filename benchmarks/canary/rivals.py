"""The rules that other tools use, on the same streams: thresholds per interval, and tests looked at repeatedly.

Each rule sees one metric's counts, or the durations, tick by tick, and says for every run after how many requests of
the candidate it would have rolled back.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from delivery.analysis.wealth import Array

INTERVAL = 20  # candidate requests between two looks
Z_LEVEL = 0.05
MANN_WHITNEY_LEVEL = 0.01  # one-sided: Kayenta's default asks for 98 % two-sided


class Rule(Protocol):
    """`step` takes sizes, hits (runs,) and histograms of durations (runs, buckets); returns who is rolled back now."""

    def step(
        self, n_s: Array, hits_s: Array, n_c: Array, hits_c: Array, stable: Array, candidate: Array
    ) -> NDArray[np.bool_]:
        """One tick."""


class Threshold:
    """Argo-like and Flagger-like: the rate of each interval against a fixed threshold, some failures allowed."""

    def __init__(self, runs: int, threshold: float, failures: int):
        self._threshold, self._failures = threshold, failures
        self._n, self._hits, self._failed = np.zeros(runs), np.zeros(runs), np.zeros(runs)

    def step(
        self, n_s: Array, hits_s: Array, n_c: Array, hits_c: Array, stable: Array, candidate: Array
    ) -> NDArray[np.bool_]:
        """One tick."""
        self._n, self._hits = self._n + n_c, self._hits + hits_c
        look = self._n >= INTERVAL
        self._failed = self._failed + (look & (self._hits > self._threshold * self._n))
        self._n, self._hits = np.where(look, 0, self._n), np.where(look, 0, self._hits)
        return self._failed >= self._failures


class PeekingZ:
    """A two-sample z-test over everything so far, repeated after every interval; or only once, at the end."""

    def __init__(self, runs: int):
        self._sums, self._looked = np.zeros((4, runs)), np.zeros(runs)

    def step(
        self, n_s: Array, hits_s: Array, n_c: Array, hits_c: Array, stable: Array, candidate: Array
    ) -> NDArray[np.bool_]:
        """One tick."""
        self._sums = self._sums + np.array([n_s, hits_s, n_c, hits_c])
        look = self._sums[2] - self._looked >= INTERVAL
        self._looked = np.where(look, self._sums[2], self._looked)
        rejected: NDArray[np.bool_] = look & self.rejects()
        return rejected

    def rejects(self) -> NDArray[np.bool_]:
        """Whether it rejects now."""
        n_s, hits_s, n_c, hits_c = self._sums
        pooled = (hits_s + hits_c) / np.maximum(n_s + n_c, 1)
        error = np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(n_s, 1) + 1 / np.maximum(n_c, 1)))
        z = (hits_c / np.maximum(n_c, 1) - hits_s / np.maximum(n_s, 1)) / np.where(error > 0, error, np.inf)
        return np.asarray(1 - ndtr(z) < Z_LEVEL)


class MannWhitney:
    """Durations over everything so far, repeated after every interval."""

    def __init__(self, runs: int, buckets: int):
        self._stable, self._candidate = np.zeros((runs, buckets)), np.zeros((runs, buckets))
        self._looked = np.zeros(runs)

    def step(
        self, n_s: Array, hits_s: Array, n_c: Array, hits_c: Array, stable: Array, candidate: Array
    ) -> NDArray[np.bool_]:
        """One tick."""
        self._stable, self._candidate = self._stable + stable, self._candidate + candidate
        size = self._candidate.sum(axis=1)
        look = size - self._looked >= INTERVAL
        self._looked = np.where(look, size, self._looked)
        rejected = np.zeros(len(size), dtype=bool)
        if look.any():
            rejected[look] = _slower(self._stable[look], self._candidate[look]) < MANN_WHITNEY_LEVEL
        return rejected


def _slower(stable: Array, candidate: Array) -> Array:
    """One-sided p-values of the normal approximation, ties counted half: (runs,)."""
    n_s, n_c = stable.sum(axis=1), candidate.sum(axis=1)
    u = (candidate * (stable.cumsum(axis=1) - stable / 2)).sum(axis=1)
    n, ties = n_s + n_c, stable + candidate
    spread = n_s * n_c / 12 * (n + 1 - (ties**3 - ties).sum(axis=1) / (n * (n - 1)))
    return np.asarray(1 - ndtr((u - n_s * n_c / 2) / np.sqrt(spread)))
