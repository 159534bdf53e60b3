"""Random traffic of a canary, for many runs at once: the same stream feeds our analysis and every other rule.

A tick holds the same number of requests in every run; each goes to the candidate with the stage's share. Seven rates
and two durations are seen of every request. Durations are lognormal; their logarithms are what is drawn.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from delivery.analysis.wealth import Array

RATES = {
    "errors": 0.01,
    "empty answers": 0.005,
    "format": 0.02,
    "refusals": 0.03,
    "gives the answer away": 0.05,
    "negative feedback": 0.04,
    "escalations": 0.01,
}
NAMES = tuple(RATES)
SPREAD = 0.8  # of log durations: p95 is 3.7 times the median
TTFT_CORRELATION = 0.6


@dataclass(frozen=True)
class Scenario:
    """One kind of traffic. Durations scale by `slower`; `drift` and `shares` are drawn or read tick by tick."""

    ticks: int
    requests: int = 40  # per tick, both arms together
    share: float = 0.05
    exact: bool = False  # every 20th request is the candidate's, instead of each one with 5 %
    candidate: dict[str, float] = field(default_factory=dict)  # rates that differ from stable's
    stable: dict[str, float] = field(default_factory=dict)  # rates that differ from the usual ones
    slower: float = 1.0  # the candidate's durations
    bad_from: int = 0  # the candidate differs from this tick on
    drifts: bool = False  # both arms' odds and durations wander and jump together
    incident: tuple[int, int, float] | None = None  # ticks from, to: all rates of both arms are at least this
    ramp: tuple[float, ...] = ()  # shares of equally long stages
    durations: bool = True  # whether they are drawn at all
    history: int = 500  # requests of stable alone before, as a shadow stage leaves them

    def share_at(self, tick: int) -> float:
        """The candidate's share in a tick."""
        return self.ramp[min(tick * len(self.ramp) // self.ticks, len(self.ramp) - 1)] if self.ramp else self.share

    def with_rates(self, **rates: float) -> "Scenario":
        """The same with other rates of the candidate."""
        return replace(self, candidate={**self.candidate, **rates})


@dataclass(frozen=True)
class TrafficTick:
    """Sizes (runs,), hits (runs, 7), log durations (runs, requests) with the candidate's mask."""

    n_s: Array
    n_c: Array
    hits_s: NDArray[np.int64]
    hits_c: NDArray[np.int64]
    is_candidate: NDArray[np.bool_]
    log_latency: NDArray[np.float32] | None
    log_ttft: NDArray[np.float32] | None


class TrafficStream:
    """One scenario's ticks for a number of runs; runs that are decided can be left out to save time."""

    def __init__(self, scenario: Scenario, runs: int, rng: np.random.Generator):
        self._scenario, self._rng = scenario, rng
        self._odds, self._pace = np.zeros(runs), np.zeros(runs)
        self.runs = runs

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Only these runs go on."""
        self._odds, self._pace = self._odds[mask], self._pace[mask]
        self.runs = int(mask.sum())

    def ticks(self) -> Iterator[TrafficTick]:
        """Tick after tick."""
        for number in range(self._scenario.ticks):
            yield self._tick(number)

    def before(self) -> TrafficTick:
        """What stable did before the candidate came."""
        nobody = np.zeros((self.runs, self._scenario.history), dtype=bool)
        return self._draw(-1, nobody, worse=False)

    def _tick(self, number: int) -> TrafficTick:
        if self._scenario.drifts:
            self._wander()
        return self._draw(number, self._arms(number), worse=number >= self._scenario.bad_from)

    def _draw(self, number: int, mask: NDArray[np.bool_], *, worse: bool) -> TrafficTick:
        scenario, rng = self._scenario, self._rng
        n_c = mask.sum(axis=1)
        n_s = mask.shape[1] - n_c
        hits_s = rng.binomial(n_s[:, None], self._rates(number, candidate=False))
        hits_c = rng.binomial(n_c[:, None], self._rates(number, candidate=worse))
        latency: NDArray[np.float32] | None = None
        ttft: NDArray[np.float32] | None = None
        if scenario.durations:
            shift = np.log(scenario.slower) if worse else 0.0
            first = rng.standard_normal(mask.shape, dtype=np.float32)
            second = rng.standard_normal(mask.shape, dtype=np.float32)
            mixed = TTFT_CORRELATION * first + math.sqrt(1 - TTFT_CORRELATION**2) * second
            base = (self._pace[:, None] + np.where(mask, shift, 0.0)).astype(np.float32)
            latency = (base + SPREAD * first).astype(np.float32)
            ttft = (base + SPREAD * mixed).astype(np.float32)
        return TrafficTick(n_s.astype(float), n_c.astype(float), hits_s, hits_c, mask, latency, ttft)

    def _arms(self, number: int) -> NDArray[np.bool_]:
        scenario, share = self._scenario, self._scenario.share_at(number)
        if not scenario.exact:
            return self._rng.random((self.runs, scenario.requests), dtype=np.float32) < share
        done, after = round(number * scenario.requests * share), round((number + 1) * scenario.requests * share)
        return np.broadcast_to(np.arange(scenario.requests) < after - done, (self.runs, scenario.requests))

    def _wander(self) -> None:
        """A daily wave is slow; what hurts is a walk with sudden jumps."""
        jump = self._rng.random(self.runs) < 0.01
        self._odds = 0.98 * self._odds + self._rng.normal(0, 0.1, self.runs)
        self._odds = np.where(jump, self._rng.normal(0, 1.2, self.runs), self._odds)
        self._pace = 0.98 * self._pace + self._rng.normal(0, 0.05, self.runs)
        self._pace = np.where(jump, self._rng.normal(0, 0.4, self.runs), self._pace)

    def _rates(self, number: int, *, candidate: bool) -> Array:
        scenario = self._scenario
        rates = {**RATES, **scenario.stable, **(scenario.candidate if candidate else {})}
        p = np.array([rates[name] for name in NAMES])
        if scenario.incident is not None and scenario.incident[0] <= number < scenario.incident[1]:
            p = np.maximum(p, scenario.incident[2])
        if not scenario.drifts:
            return np.broadcast_to(p, (self.runs, len(p)))
        odds = p / np.maximum(1 - p, 1e-12) * np.exp(self._odds)[:, None]
        drifted: Array = np.minimum(odds / (1 + odds), 1.0)
        return drifted
