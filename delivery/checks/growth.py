"""How a stage's evidence grows, and when a pass is possible at the earliest if it goes on like this.

A projection for people who wait, from what was seen so far. It decides nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from configs.rollout import Stage
from configs.strict import Strict
from delivery.checks.verdicts import CheckResult, Facts

MOST_POINTS = 240  # of one check: more than a curve shows


class Point(Strict):
    """A check's evidence at one moment. `at` is UNIX seconds; `n` counts the candidate's requests."""

    at: float
    n: int
    worse: float
    within: float


class NextPass(Strict):
    """In how many seconds at the earliest, and what it waits for. None: as things are, it does not come."""

    seconds: float | None
    waits_for: str


def points_of(rows: Iterable[Mapping[str, Any]], epoch: str) -> dict[str, list[Point]]:
    """Each check's curve, from the ledger's decisions and heartbeats that were made in this epoch, oldest first."""
    curves: dict[str, list[Point]] = {}
    for row in rows:
        if row["counts"].get("epoch") != epoch:
            continue
        for result in row["results"]:
            if {"check", "e_worse", "e_better"} <= set(result):
                at, n = row["at"], result.get("candidate_requests", 0)
                if n and not row["counts"]["candidate"]["requests"]:
                    continue  # the decision that began this epoch: it tells what the one before had seen
                point = Point(at=at, n=n, worse=result["e_worse"], within=result["e_better"])
                curves.setdefault(result["check"], []).append(point)
    return {name: thinned(points) for name, points in curves.items()}


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many of them, evenly; the first and the last stay."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(index * step)] for index in range(most)]


def next_pass(
    stage: Stage,
    facts: Facts,
    results: Sequence[CheckResult],
    epoch_s: float,
    curves: Mapping[str, Sequence[Point]],
) -> NextPass:
    """The latest of what a pass needs: its shortest time, its requests, and each gating check's evidence."""
    waits: list[tuple[float, str]] = [(stage.min_duration_s - epoch_s, "its shortest time")]
    missing = stage.min_requests - facts.candidate_requests
    if missing > 0:
        if facts.candidate_requests == 0 or epoch_s <= 0:
            return NextPass(seconds=None, waits_for=f"requests: none yet of the {stage.min_requests} that it needs")
        each_s = epoch_s / facts.candidate_requests
        waits.append((missing * each_s, f"{missing} more requests of the candidate"))
    needed = 1 / facts.alpha
    for result in results:
        if result.on_fail == "warn" or result.e_better >= needed:
            continue
        slope = _growth(curves.get(result.check, ()), result, epoch_s)
        if result.verdict in ("fail", "error") or slope <= 0:
            why = "fails" if result.verdict == "fail" else "gains no evidence that it is within its limit"
            return NextPass(seconds=None, waits_for=f"{result.check}, which {why}")
        left = math.log(needed) - math.log(max(result.e_better, 1e-300))
        waits.append((left / slope, f"evidence for {result.check}"))
    seconds, what = max(waits)
    return NextPass(seconds=max(0.0, seconds), waits_for=what if seconds > 0 else "the controller's next look")


def _growth(points: Sequence[Point], result: CheckResult, epoch_s: float) -> float:
    """Of the evidence's logarithm in a second: over the later half of what was seen, else since the beginning."""
    later = points[len(points) // 2 :]
    if len(later) >= 3 and later[-1].at > later[0].at and later[0].within > 0:
        gained = math.log(max(later[-1].within, 1e-300)) - math.log(later[0].within)
        return gained / (later[-1].at - later[0].at)
    return math.log(max(result.e_better, 1e-300)) / epoch_s if epoch_s > 0 else 0.0
