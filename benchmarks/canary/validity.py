"""Rows on what must not happen: an equal candidate rolled back, whatever the traffic does to both arms."""

import numpy as np

from benchmarks.canary import absolute, shadow, sticky
from benchmarks.canary.ours import Limits
from benchmarks.canary.row import TableRow
from benchmarks.canary.simulate import ALPHA, Rollbacks, Watched, roll_back
from benchmarks.canary.streams import Scenario

TICKS, REQUESTS = 400, 50  # about 1,000 requests of a 5 % candidate, looked at 400 times
RIVALS_RUNS = 4000


def equal(runs: int, seed: int) -> list[TableRow]:
    """Constant rates, each request to the candidate with 5 %."""
    return [_ten_checks("equal candidate", Scenario(TICKS, REQUESTS), runs, seed)]


def drift(runs: int, seed: int) -> list[TableRow]:
    """Rates and durations of both arms wander and jump together."""
    return [_ten_checks("equal candidate, all drifts", Scenario(TICKS, REQUESTS, drifts=True), runs, seed)]


def ramp(runs: int, seed: int) -> list[TableRow]:
    """Shares grow while rates grow: what pooling over stages cannot stand (Simpson)."""
    scenario = Scenario(TICKS, REQUESTS, ramp=(0.01, 0.05, 0.25, 0.5), incident=(200, 400, 0.06))
    return [_ten_checks("equal candidate, ramp of shares", scenario, runs, seed)]


def slow_traffic(runs: int, seed: int) -> list[TableRow]:
    """Most ticks hold no request of the candidate and wait, some of them over the beginning of an incident."""
    scenario = Scenario(1600, 5, drifts=True, incident=(400, 800, 0.3), durations=False)
    measured = roll_back(scenario, Limits(), runs, seed).within()["ours"]
    detail = "seven checks; 5 requests a tick, drift, and an incident of 30 % in both arms"
    return [TableRow("equal candidate, slow traffic", "rolled back", ALPHA, "at most", measured, runs, detail)]


def sticky_users(runs: int, seed: int) -> list[TableRow]:
    """Some users fail again and again."""
    by_user, by_request = sticky.false_rollbacks(runs, 500, seed)
    detail = f"one check with all of alpha; 3 % of users fail half the time; counting every request: {by_request:.1%}"
    return [TableRow("equal candidate, sticky users", "rolled back", ALPHA, "at most", by_user, runs, detail)]


def sticky_users_many_checks(runs: int, seed: int) -> list[TableRow]:
    """Some users fail in one respect or another again and again, some always wait longer; one budget for all."""
    stopped = sticky.rollbacks(sticky.Failing(), runs, TICKS, seed)
    measured = float(np.isfinite(stopped).mean())
    detail = "ten checks under one budget, 2,000 users, 400 looks; 3 % fail half the time in each respect"
    return [
        TableRow("equal candidate, sticky users, ten checks", "rolled back", ALPHA, "at most", measured, runs, detail)
    ]


def shadow_pairs(runs: int, seed: int) -> list[TableRow]:
    """Pairs of answers to the same requests; some users differ for ever, in either direction."""
    by_user, by_pair = shadow.false_rollbacks(runs, TICKS, seed)
    detail = f"ten checks under one budget, 4,000 pairs of 400 users; counting every pair: {by_pair:.1%}"
    return [TableRow("equal candidate, shadow in pairs", "rolled back", ALPHA, "at most", by_user, runs, detail)]


def absolute_limits(runs: int, seed: int) -> list[TableRow]:
    """A candidate exactly at its limit; and both arms beyond it for a while."""
    at_limit = absolute.at_the_limit(runs, 500, seed)
    blamed, looking = absolute.shared_incident(runs, seed + 1)
    detail = f"10 % in both arms for 300 candidate requests; without looking at stable: {blamed:.1%}"
    first = TableRow(
        "candidate at its absolute limit", "rolled back", ALPHA, "at most", at_limit, runs, "one check, 500 looks"
    )
    return [
        first,
        TableRow("shared incident, absolute limit 5 %", "rolled back", ALPHA, "at most", looking, runs, detail),
    ]


def _ten_checks(case: str, scenario: Scenario, runs: int, seed: int) -> TableRow:
    result: Rollbacks = roll_back(scenario, Limits(), runs, seed, watched=Watched(), rivals_runs=RIVALS_RUNS)
    others = result.within()
    measured = others.pop("ours")
    others["z-test once, pooled, at the end"] = float(result.pooled_at_end.mean())
    return TableRow(case, "rolled back", ALPHA, "at most", measured, runs, "ten checks, 400 looks", others)
