"""Our analysis on a simulated stream: the very formulas of delivery.analysis, for many runs at once.

Ten checks: seven rates, p95 of latency and of time to first token, typical latency. Stable's past durations are kept in
the buckets of delivery.analysis.sketch, one histogram a run.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.canary.streams import NAMES, TrafficTick
from benchmarks.canary.users import split
from delivery.analysis.bets import TAIL_LIFTS, Claim
from delivery.analysis.quantiles import ENOUGH_PAST
from delivery.analysis.ranks import GRADES, LEVELS
from delivery.analysis.sketch import GROWTH
from delivery.analysis.two_sample import Comparison, Standing, advance
from delivery.analysis.wealth import Array

WIDTH = float(np.log(GROWTH))
BUCKETS = 400  # of log durations around 0: exp(-4) .. exp(4)


@dataclass(frozen=True)
class Limits:
    """Relative limits of the ten checks; a rate's name -> (ratio, increase) where it is not (1, 0)."""

    rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    p95_ratio: float = 1.0
    typical_ratio: float = 1.0
    claim: Claim = "worse"


class Family:
    """All checks of all runs."""

    def __init__(self, limits: Limits, runs: int, *, durations: bool = True):
        by_test: dict[Comparison, list[int]] = {}
        for i, name in enumerate(NAMES):
            ratio, increase = limits.rates.get(name, (1.0, 0.0))
            by_test.setdefault(Comparison(ratio=ratio, increase=increase, claim=limits.claim), []).append(i)
        self._rates = [(test, of, Standing.new(test, runs, len(of))) for test, of in by_test.items()]
        self._durations: list[Durations] = []
        if durations:
            latency = Durations(limits.p95_ratio, limits.typical_ratio, limits.claim, runs)
            self._durations = [latency, Durations(limits.p95_ratio, None, limits.claim, runs)]

    def learn(self, before: TrafficTick) -> None:
        """Stable's past, which is compared with nothing."""
        n = before.n_s[:, None]
        self._rates = [
            (test, of, replace(standing, known_n=n + np.zeros(len(of)), known_total=before.hits_s[:, of].astype(float)))
            for test, of, standing in self._rates
        ]
        for seen, logs in zip(self._durations, (before.log_latency, before.log_ttft), strict=False):
            assert logs is not None  # noqa: S101 - a family with durations needs a stream with durations
            seen.learn(logs)

    def step(self, tick: TrafficTick) -> None:
        """One more tick."""
        misses_s, misses_c = tick.n_s[:, None] - tick.hits_s, tick.n_c[:, None] - tick.hits_c
        stable, candidate = np.stack([misses_s, tick.hits_s], axis=-1), np.stack([misses_c, tick.hits_c], axis=-1)
        self._rates = [
            (test, of, advance(test, standing, stable[:, of], candidate[:, of])) for test, of, standing in self._rates
        ]
        for seen, logs in zip(self._durations, (tick.log_latency, tick.log_ttft), strict=False):
            assert logs is not None  # noqa: S101 - a family with durations needs a stream with durations
            seen.step(logs, tick.is_candidate)

    def e_values(self) -> Array:
        """(runs, checks): the rates by NAMES, p95 of latency, typical latency, p95 of time to first token."""
        rates = np.ones((len(self._rates[0][2].blocks), len(NAMES)))
        for _, of, standing in self._rates:
            rates[:, of] = standing.e
        durations = [standing.e for seen in self._durations for standing in seen.standings()]
        return np.concatenate([rates, *(e[:, None] for e in durations)], axis=1)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Only these runs go on."""
        self._rates = [(test, of, kept(standing, mask)) for test, of, standing in self._rates]
        for seen in self._durations:
            seen.keep(mask)


def kept(standing: Standing, mask: NDArray[np.bool_]) -> Standing:
    """A standing of these runs alone."""
    chosen: dict[str, Any] = {item.name: getattr(standing, item.name)[mask] for item in fields(standing)}
    return Standing(**chosen)


class Counting(Protocol):
    """Which requests stand for a user in the checks of a duration."""

    def exceeded(self, over: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Who counts against p95, and whether that user exceeded it: (runs, requests) each."""

    def ranked(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Who counts among the typical values."""


class Durations:
    """One kind of duration: the p95 check and, if a ratio is given, the rank check."""

    def __init__(self, p95_ratio: float, typical_ratio: float | None, claim: Claim, runs: int):
        self._p95_shift, self._typical_shift = np.float32(np.log(p95_ratio)), typical_ratio and np.log(typical_ratio)
        self._tail = Comparison(claim=claim, lifts=TAIL_LIFTS, guess=0.05)
        self._mean = Comparison(claim=claim, lifts=TAIL_LIFTS, guess=0.5, levels=LEVELS)
        self._tail_standing, self._mean_standing = Standing.new(self._tail, runs), Standing.new(self._mean, runs)
        self._past = np.zeros((runs, BUCKETS), dtype=np.float32)  # counts stay far below 2**24

    def standings(self) -> list[Standing]:
        """Of the checks it has."""
        return [self._tail_standing] if self._typical_shift is None else [self._tail_standing, self._mean_standing]

    def learn(self, logs: NDArray[np.float32]) -> None:
        """Log durations (runs, requests) of stable's past."""
        self._remember(_bucket(logs), np.ones(logs.shape, dtype=bool))

    def step(
        self, logs: NDArray[np.float32], is_candidate: NDArray[np.bool_], counting: Counting | None = None
    ) -> None:
        """One more tick of log durations (runs, requests); without `counting` every request counts for itself."""
        below = self._past.cumsum(axis=1, dtype=np.float32)
        n = below[:, -1]
        known = (n >= ENOUGH_PAST)[:, None]
        rank = np.maximum(np.ceil(0.95 * n), 1)
        x = (_middle((below < rank[:, None]).sum(axis=1)))[:, None].astype(np.float32)
        over = (logs > np.where(is_candidate, x + self._p95_shift, x)) & known
        counts, over = (known, over) if counting is None else counting.exceeded(over)
        self._tail_standing = advance(
            self._tail,
            self._tail_standing,
            split(over, ~is_candidate & known & counts),
            split(over, is_candidate & known & counts),
        )
        buckets = _bucket(logs)
        if self._typical_shift is not None:
            ranked = known if counting is None else known & counting.ranked(logs.shape)
            self._rank_step(logs, is_candidate & ranked, ~is_candidate & ranked, below, n)
        self._remember(buckets, ~is_candidate)

    def _rank_step(
        self,
        logs: NDArray[np.float32],
        candidate: NDArray[np.bool_],
        stable: NDArray[np.bool_],
        below: NDArray[np.float32],
        n: NDArray[np.float32],
    ) -> None:
        assert self._typical_shift is not None  # noqa: S101 - the caller looked
        scaled = np.where(candidate, logs - np.float32(self._typical_shift), logs)
        at = _bucket(scaled)
        below_half = np.take_along_axis(below, at, axis=1) - np.take_along_axis(self._past, at, axis=1) / 2
        grades = np.minimum((below_half / np.maximum(n, 1)[:, None] * GRADES).astype(np.int64), GRADES - 1)
        self._mean_standing = advance(
            self._mean, self._mean_standing, _tally(grades, stable, GRADES), _tally(grades, candidate, GRADES)
        )

    def _remember(self, buckets: NDArray[np.int64], mask: NDArray[np.bool_]) -> None:
        flat = (buckets + np.arange(len(buckets))[:, None] * BUCKETS)[mask]
        np.add.at(self._past.reshape(-1), flat, np.float32(1))

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Only these runs go on."""
        self._tail_standing = kept(self._tail_standing, mask)
        self._mean_standing = kept(self._mean_standing, mask)
        self._past = self._past[mask]


def _bucket(logs: NDArray[np.float32]) -> NDArray[np.int64]:
    shifted = logs / np.float32(WIDTH) + np.float32(BUCKETS // 2)  # positive, so that cutting off is rounding down
    return np.clip(shifted.astype(np.int64), 0, BUCKETS - 1)


def _middle(bucket: NDArray[np.int64]) -> Array:
    return (bucket.astype(np.float64) - BUCKETS // 2 + 0.5) * WIDTH


def _tally(cells: NDArray[np.int64], mask: NDArray[np.bool_], width: int) -> Array:
    """How often each run has each cell among the masked requests: (runs, width)."""
    runs = len(cells)
    flat = (cells + np.arange(runs)[:, None] * width)[mask]
    return np.bincount(flat, minlength=runs * width).reshape(runs, width).astype(np.float64)
