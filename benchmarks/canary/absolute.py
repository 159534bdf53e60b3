"""Absolute limits on a simulated stream: a candidate at its limit, and an incident that strikes both arms."""

import numpy as np

from benchmarks.canary.simulate import ALPHA, CHECKS, CHUNK
from delivery.analysis.one_sample import Limit, advance
from delivery.analysis.wealth import Array, e_values

LIMIT = 0.05
PER_TICK_S, PER_TICK_C = 38, 2


def at_the_limit(runs: int, ticks: int, seed: int) -> float:
    """The share of runs in which a candidate exactly at its limit is rolled back by one check of level alpha."""
    rng = np.random.default_rng(seed)
    candidate, _ = _ever(rng, np.full(ticks, LIMIT), runs, 1 / ALPHA)
    return float(np.isfinite(candidate).mean())


def shared_incident(runs: int, seed: int) -> tuple[float, float]:
    """Shares of runs in which an equal candidate is rolled back: by its own evidence alone, and looking at stable too.

    Both arms go from 1 % to 10 % for 150 ticks, against a limit of 5 %, one of ten checks.
    """
    rates = np.concatenate([np.full(100, 0.01), np.full(150, 0.1), np.full(150, 0.01)])
    candidate, stable = _ever(np.random.default_rng(seed), rates, runs, CHECKS / ALPHA)
    blamed = np.isfinite(candidate)
    return float(blamed.mean()), float((blamed & (candidate < stable)).mean())


def _ever(rng: np.random.Generator, rates: Array, runs: int, needed: float) -> tuple[Array, Array]:
    """The ticks when the candidate's evidence reaches `needed`, and stable's 1/alpha; inf for never."""
    test = Limit(limit=LIMIT)
    firsts = np.full((2, runs), np.inf)
    for start in range(0, runs, CHUNK):
        size = min(CHUNK, runs - start)
        for arm, (n, level) in enumerate(((PER_TICK_C, needed), (PER_TICK_S, 1 / ALPHA))):
            wealth, blocks = np.zeros((size, 5)), np.zeros(size)
            for tick, rate in enumerate(rates):
                hits = rng.binomial(n, rate, size)
                wealth, blocks = advance(test, wealth, blocks, np.stack([n - hits, hits], axis=-1).astype(float))
                reached = e_values(wealth, blocks) >= level
                part = firsts[arm, start : start + size]
                part[reached & np.isinf(part)] = tick
    return firsts[0], firsts[1]
