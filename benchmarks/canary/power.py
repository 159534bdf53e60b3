"""Rows on what must happen, and how soon: bad candidates rolled back."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from benchmarks.canary import shadow, sticky
from benchmarks.canary.bound import requests as bound
from benchmarks.canary.ours import Limits
from benchmarks.canary.row import TableRow
from benchmarks.canary.simulate import ALPHA, CHECKS, P95_OF_NORMAL, Watched, roll_back
from benchmarks.canary.streams import RATES, SPREAD, Scenario
from delivery.analysis.wealth import Array

TICKS, REQUESTS = 8000, 20  # one request of the candidate per tick; undecided runs go on for long
COUNTED_FOR_P95 = tuple(range(8))  # the other checks of durations see the same and would help


@dataclass(frozen=True)
class PowerCase:
    """One kind of badness, what must find it, and within how many candidate requests."""

    name: str
    within: int
    limits: Limits
    watched: Watched
    p_s: float  # the rate that the check sees, of both arms
    p_c: float
    bad: dict[str, float]
    increase: float = 0.0
    slower: float = 1.0

    def scenario(self, *, exact: bool) -> Scenario:
        """Its traffic; durations only where they matter."""
        return Scenario(
            TICKS, REQUESTS, exact=exact, candidate=self.bad, slower=self.slower, durations=self.slower != 1.0
        )


def rate(name: str, bad: float, within: int, increase: float = 0.0) -> PowerCase:
    """A rate that rises, against stable's + increase."""
    limits = Limits(rates={name: (1.0, increase)} if increase else {})
    margin = f", d = {100 * increase:g} %" if increase else ""
    case = f"{name} {RATES[name]:.0%} -> {bad:.0%}{margin}"
    return PowerCase(case, within, limits, Watched(name, 2 * RATES[name]), RATES[name], bad, {name: bad}, increase)


def p95(slower: float, ratio: float, within: int) -> PowerCase:
    """Durations that grow, against `ratio` times stable's p95."""
    exceeds = 1 - float(ndtr(P95_OF_NORMAL + math.log(ratio / slower) / SPREAD))
    case = f"p95 x{slower:g}, limit {ratio:g}x"
    return PowerCase(case, within, Limits(p95_ratio=ratio), Watched("p95", ratio), 0.05, exceeds, {}, slower=slower)


CASES = (
    rate("errors", 0.2, 40),
    rate("errors", 0.05, 350),
    rate("errors", 0.05, 850, increase=0.01),
    rate("refusals", 0.1, 300),
    p95(3.0, 1.2, 100),
    p95(1.5, 1.0, 450),
)


WORSE_IN_SHADOW = (shadow.Worse("errors", 0.2), shadow.Worse("errors", 0.05), shadow.Worse("refusals", 0.1))
WORSE_FOR_USERS = (
    ("errors 4 points more", sticky.Failing("errors", 0.04), 350),
    ("refusals 7 points more", sticky.Failing("refusals", 0.07), 300),
    ("durations x1.5", sticky.Failing(slower=1.5), 450),
)


def power(case: PowerCase, runs: int, seed: int) -> list[TableRow]:
    """Power and mean sample size, when every 20th request is the candidate's and when arrivals are random."""
    rows = []
    least = bound(case.p_s, case.p_c, ALPHA / CHECKS, share=0.05, increase=case.increase)
    for arrivals, exact in (("every 20th request", True), ("random arrivals", False)):
        name = f"{case.name}, {arrivals}"
        counted = COUNTED_FOR_P95 if case.slower != 1.0 else None
        result = roll_back(
            case.scenario(exact=exact),
            case.limits,
            runs,
            seed,
            watched=case.watched,
            rivals_until=case.within,
            counted=counted,
        )
        others = result.within(case.within)
        share = others.pop("ours")
        error, p90 = math.sqrt(share * (1 - share) / runs), float(np.quantile(result.ours, 0.9))
        detail = f"+- {2 * error:.3f}; 90 % need {p90:.0f} requests"
        curve = tuple(float(q) for q in np.quantile(result.ours, np.arange(1, 100) / 100))
        rows.append(TableRow(name, f"power within {case.within}", 0.9, "at least", share, runs, detail, others, curve))
        mean = float(result.ours.mean())
        detail = f"mean {mean:.1f} requests, bound {least:.1f} at alpha/10"
        rows.append(TableRow(name, "mean / bound", 1.5, "at most", mean / least, runs, detail))
    return rows


def in_shadow(runs: int, seed: int) -> list[TableRow]:
    """Worse candidates in shadow: pairs until the rollback, the other nine checks being an equal candidate's."""
    rows = []
    for number, worse in enumerate(WORSE_IN_SHADOW):
        found, least = shadow.stops(worse, runs, seed + number), worse.bound(ALPHA / CHECKS)
        case = f"shadow in pairs, {worse.check} {RATES[worse.check]:.0%} -> {worse.rate:.0%}"
        mean, p90 = float(found.mean()), float(np.quantile(found, 0.9))
        detail = f"mean {mean:.1f} pairs, bound {least:.1f} at alpha/10; 90 % need {p90:.0f}"
        rows.append(TableRow(case, "mean / bound", 1.5, "at most", mean / least, runs, detail))
    return rows


def of_sticky_users(runs: int, seed: int) -> list[TableRow]:
    """Worse candidates for users who stick to it. Without a target: a user's failures count once, which costs power."""
    rows = []
    for number, (name, failing, within) in enumerate(WORSE_FOR_USERS):
        found = sticky.rollbacks(failing, runs, within, seed + number)
        share = float((found <= within).mean())
        detail = f"+- {2 * math.sqrt(share * (1 - share) / runs):.3f}; ten checks, the candidate has 100 of 2,000 users"
        rows.append(TableRow(f"sticky users, {name}", f"power within {within}", None, "at least", share, runs, detail))
    return rows


def outage(runs: int, seed: int) -> list[TableRow]:
    """Every answer of the candidate fails."""
    broken = {"errors": 1.0}
    exact = Scenario(400, REQUESTS, exact=True, candidate=broken, durations=False)
    arrivals = Scenario(8000, 5, candidate=broken, durations=False)
    busy = Scenario(50, 200, candidate=broken, durations=False)
    late = Scenario(1500, REQUESTS, exact=True, candidate=broken, bad_from=1000, durations=False)
    one_tick = float(np.quantile(roll_back(busy, Limits(), runs, seed).ours_ticks, 0.99))
    after = roll_back(late, Limits(), runs, seed).ours - 1000
    before = float(np.mean(after <= 0))
    return [
        _p99("total outage, every 20th request", roll_back(exact, Limits(), runs, seed).ours, 4),
        _p99("total outage, random arrivals", roll_back(arrivals, Limits(), runs, seed).ours, 4),
        TableRow("total outage, 10 candidate requests a tick", "ticks (p99)", 1, "at most", one_tick, runs),
        _p99(f"total outage after 1,000 good requests ({before:.1%} before)", after[after > 0], None),
    ]


def _p99(case: str, stops: Array, target: float | None) -> TableRow:
    detail = f"mean {stops.mean():.2f}; 4 suffice in {np.mean(stops <= 4):.1%}"
    return TableRow(case, "requests (p99)", target, "at most", float(np.quantile(stops, 0.99)), len(stops), detail)
