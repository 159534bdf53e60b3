"""Runs a scenario through our analysis and, beside it, through the rivals' rules, and says when each rolled back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.canary.ours import BUCKETS, WIDTH, Family, Limits
from benchmarks.canary.rivals import MannWhitney, PeekingZ, Rule, Threshold
from benchmarks.canary.streams import NAMES, SPREAD, Scenario, TrafficStream, TrafficTick
from delivery.analysis.wealth import Array

ALPHA = 0.05
CHECKS = 10
CHUNK = 1000  # runs at once: what fits into the processor's cache
P95_OF_NORMAL = 1.6448536269514722


@dataclass(frozen=True)
class Rollbacks:
    """Per run and rule: candidate requests until the rollback, inf for none; `ours_ticks` counts ticks."""

    ours: Array
    ours_ticks: Array
    rivals: dict[str, Array]
    pooled_at_end: NDArray[np.bool_]

    def within(self, requests: float | None = None) -> dict[str, float]:
        """The share of runs that each rule rolled back, ever or within so many candidate requests."""
        last = np.finfo(np.float64).max if requests is None else requests
        every = {"ours": self.ours, **self.rivals}
        return {name: float(np.mean(stops <= last)) for name, stops in every.items()}


@dataclass(frozen=True)
class Watched:
    """What the rivals watch: a rate by name, or p95 of latency; with the threshold that an operator would set."""

    metric: str = "errors"
    threshold: float = 0.02  # of a rate in an interval; for p95: how many times stable's


def roll_back(
    scenario: Scenario,
    limits: Limits,
    runs: int,
    seed: int,
    *,
    watched: Watched | None = None,
    rivals_until: float = np.inf,
    rivals_runs: int | None = None,
    counted: tuple[int, ...] | None = None,
    on_chunk: Callable[[int], None] = lambda done: None,
) -> Rollbacks:
    """Simulates. Rivals are followed up to `rivals_until` candidate requests; then only undecided runs go on.

    They are slow, and `rivals_runs` runs are enough for rules that err so often.
    `counted` are the checks whose E-values enter the sum, if not all of them: the others weigh as if they were 0.
    """
    parts = []
    for start in range(0, runs, CHUNK):
        rng = np.random.default_rng([seed, start])
        size = min(CHUNK, runs - start)
        followed = watched if rivals_runs is None or start < rivals_runs else None
        parts.append(_chunk(scenario, limits, size, rng, followed, rivals_until, counted))
        on_chunk(start + size)
    with_rivals = [part for part in parts if part.rivals]
    rivals = {name: np.concatenate([part.rivals[name] for part in with_rivals]) for name in parts[0].rivals}
    return Rollbacks(
        np.concatenate([part.ours for part in parts]),
        np.concatenate([part.ours_ticks for part in parts]),
        rivals,
        np.concatenate([part.pooled_at_end for part in parts]),
    )


def _chunk(
    scenario: Scenario,
    limits: Limits,
    runs: int,
    rng: np.random.Generator,
    watched: Watched | None,
    until: float,
    counted: tuple[int, ...] | None,
) -> Rollbacks:
    stream, family = TrafficStream(scenario, runs, rng), Family(limits, runs, durations=scenario.durations)
    family.learn(stream.before())
    rules = _rules(watched, runs, scenario)
    pooled = PeekingZ(runs)
    ours, ticks, seen = np.full(runs, np.inf), np.full(runs, np.inf), np.zeros(runs)
    rivals = {name: np.full(runs, np.inf) for name in rules}
    alive = np.arange(runs)
    following = watched is not None
    for number, tick in enumerate(stream.ticks(), start=1):
        seen[alive] += tick.n_c
        family.step(tick)
        e_values = family.e_values()
        if counted is not None:
            e_values = e_values[:, counted]
        fired = e_values.sum(axis=1) / CHECKS >= 1 / ALPHA
        new = fired & np.isinf(ours[alive])
        ours[alive[new]], ticks[alive[new]] = seen[alive[new]], number
        if following and watched is not None:
            seen_by_rules = _what_rules_see(tick, watched)
            pooled.step(*seen_by_rules)
            for name, rule in rules.items():
                first = rule.step(*seen_by_rules) & np.isinf(rivals[name])
                rivals[name][first] = seen[first]
            following = bool((seen < until).any())
        if not following:
            undecided = np.isinf(ours[alive])
            if not undecided.any():
                break
            if undecided.mean() < 0.9:
                alive = alive[undecided]
                stream.keep(undecided)
                family.keep(undecided)
    return Rollbacks(ours, ticks, rivals, pooled.rejects() if watched is not None else np.zeros(0, dtype=bool))


def _rules(watched: Watched | None, runs: int, scenario: Scenario) -> dict[str, Rule]:
    if watched is None:
        return {}
    threshold = 0.05 if watched.metric == "p95" else watched.threshold
    rules: dict[str, Rule] = {
        "Argo-like, failureLimit 0": Threshold(runs, threshold, 1),
        "Argo-like, failureLimit 3": Threshold(runs, threshold, 4),
        "Flagger-like, 5 failed checks": Threshold(runs, threshold, 5),
        "z-test at every look": PeekingZ(runs),
    }
    if scenario.durations:
        rules["Mann-Whitney at every look"] = MannWhitney(runs, BUCKETS // 4)
    return rules


def _what_rules_see(tick: TrafficTick, watched: Watched) -> tuple[Array, Array, Array, Array, Array, Array]:
    nothing = np.zeros((len(tick.n_c), 1))
    stable = candidate = nothing
    if tick.log_latency is not None:
        coarse = np.clip((tick.log_latency / (4 * WIDTH) + BUCKETS // 8).astype(np.int64), 0, BUCKETS // 4 - 1)
        stable, candidate = _histogram(coarse, ~tick.is_candidate), _histogram(coarse, tick.is_candidate)
    if watched.metric != "p95":
        i = NAMES.index(watched.metric)
        hits_s, hits_c = tick.hits_s[:, i], tick.hits_c[:, i]
        return tick.n_s, hits_s.astype(float), tick.n_c, hits_c.astype(float), stable, candidate
    assert tick.log_latency is not None  # noqa: S101 - a scenario that watches p95 draws durations
    over = tick.log_latency > np.log(watched.threshold) + P95_OF_NORMAL * SPREAD
    over_s, over_c = (over & ~tick.is_candidate).sum(axis=1), (over & tick.is_candidate).sum(axis=1)
    return tick.n_s, over_s.astype(float), tick.n_c, over_c.astype(float), stable, candidate


def _histogram(cells: NDArray[np.int64], mask: NDArray[np.bool_]) -> Array:
    runs, width = len(cells), BUCKETS // 4
    flat = (cells + np.arange(runs)[:, None] * width)[mask]
    return np.bincount(flat, minlength=runs * width).reshape(runs, width).astype(np.float64)
