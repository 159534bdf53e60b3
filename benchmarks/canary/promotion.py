"""Promotion on a simulated stream: every check must reject the reverse null, each at the full alpha."""

from dataclasses import dataclass

import numpy as np

from benchmarks.canary.ours import Family, Limits
from benchmarks.canary.row import TableRow
from benchmarks.canary.simulate import ALPHA, CHUNK
from benchmarks.canary.streams import RATES, Scenario, TrafficStream
from delivery.analysis.wealth import Array


@dataclass(frozen=True)
class Promotions:
    """`single` (checks,): the share of runs in which a check's own evidence ever sufficed.

    `stops` (runs,): candidate requests until that of all checks did at once, inf for never.
    """

    single: Array
    stops: Array


def promote(scenario: Scenario, limits: Limits, runs: int, seed: int) -> Promotions:
    """Simulates; `limits` must claim "better"."""
    ever, stops = [], []
    for start in range(0, runs, CHUNK):
        size = min(CHUNK, runs - start)
        rng = np.random.default_rng([seed, start])
        stream, family = TrafficStream(scenario, size, rng), Family(limits, size, durations=scenario.durations)
        family.learn(stream.before())
        shown, seen, stop = np.zeros((size, 1), dtype=bool), np.zeros(size), np.full(size, np.inf)
        for tick in stream.ticks():
            family.step(tick)
            seen += tick.n_c
            enough = family.e_values() >= 1 / ALPHA
            shown = shown | enough
            new = enough.all(axis=1) & np.isinf(stop)
            stop[new] = seen[new]
        ever.append(shown)
        stops.append(stop)
    return Promotions(np.concatenate(ever).mean(axis=0), np.concatenate(stops))


def at_the_boundary(runs: int, seed: int) -> list[TableRow]:
    """Every check is exactly as bad as its limit allows; one of them shown to be better is one error."""
    limits = Limits(rates={name: (1.0, 0.01) for name in RATES}, p95_ratio=1.2, typical_ratio=1.2, claim="better")
    edge = {name: rate + 0.01 for name, rate in RATES.items()}
    result = promote(Scenario(400, 50, candidate=edge, slower=1.2), limits, runs, seed)
    single, together = float(result.single.max()), float(np.isfinite(result.stops).mean())
    each = ", ".join(f"{share:.4f}" for share in result.single)
    detail = f"d = 1 point for rates, 1.2x for durations; 400 looks; each: {each}"
    return [
        TableRow(
            "promotion at the boundary, worst of ten checks", "wrongly shown", ALPHA, "at most", single, runs, detail
        ),
        TableRow("promotion at the boundary, all ten checks", "wrongly promoted", ALPHA, "at most", together, runs),
    ]


def of_an_equal_candidate(runs: int, seed: int) -> list[TableRow]:
    """How long a good candidate waits; no target."""
    limits = Limits(rates={name: (1.0, 0.03) for name in RATES}, p95_ratio=1.3, typical_ratio=1.3, claim="better")
    stops = promote(Scenario(800, 100), limits, runs, seed).stops
    share = float(np.isfinite(stops).mean())
    detail = f"margins of 3 points and 1.3x, all ten checks; {share:.1%} within 4,000"
    median = float(np.median(stops))
    return [TableRow("promotion of an equal candidate", "requests (median)", None, "at most", median, runs, detail)]
