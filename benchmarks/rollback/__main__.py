"""From the first bad answer to 100 % stable, live; and, made up, whom repeated rollbacks and quiet hours condemn.

`python -m benchmarks.rollback --json PATH [--runs N]`; `--runs 0` leaves the live part out.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy

from benchmarks.rollback.blame import equal_misbehaviour, without_traffic
from benchmarks.rollback.histories import repeated_rollbacks
from benchmarks.rollback.place import PLAN, place, users
from benchmarks.rollback.run import CASES, RollbackRun, run


@dataclass(frozen=True)
class Figure:
    """One line of the table; a target of None is none."""

    case: str
    what: str
    p50: float
    p99: float
    largest: float
    target_p99: float | None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target_p99 is None else self.p99 <= self.target_p99

    def as_line(self) -> str:
        """For the terminal."""
        verdict = {True: "met", False: "MISSED", None: ""}[self.met]
        target = "" if self.target_p99 is None else f"p99 at most {self.target_p99:g}"
        return (
            f"{self.case:<26} {self.what:<48} p50 {self.p50:7.3f}  p99 {self.p99:7.3f}  "
            f"max {self.largest:7.3f}  {target} {verdict}"
        )


def figures(runs: Sequence[RollbackRun]) -> list[Figure]:
    """The table: every measured time, by case."""
    found = []
    for case in CASES:
        mine = [one for one in runs if one.case == case.name]
        outright = case.share == 1.0
        rows: list[tuple[str, list[float], float | None]] = [
            ("first bad answer to last asked, s", [r.bad_to_last_asked_s for r in mine], 1.0 if outright else None),
            ("first bad answer to table of stable alone, s", [r.bad_to_stable_s for r in mine], None),
            ("decision to table of stable alone, s", [r.decision_to_stable_s for r in mine], None),
            (
                "evidence suffices to stable alone (at most), s",
                [r.decision_to_stable_s + PLAN.tick_s for r in mine],
                2.0,
            ),
            ("bad answers of the candidate", [float(r.bad_answers) for r in mine], None),
        ]
        for what, values, target in rows:
            p50, p99 = (float(q) for q in numpy.quantile(values, [0.5, 0.99]))
            found.append(Figure(case.name, what, p50, p99, max(values), target))
    return found


@dataclass(frozen=True)
class Count:
    """How often something happened that never should, of so many made-up cases."""

    what: str
    of: int
    count: int
    details: dict[str, int]

    @property
    def met(self) -> bool:
        """Whether it never did."""
        return self.count == 0

    def as_line(self) -> str:
        """For the terminal."""
        details = ", ".join(f"{name} {value}" for name, value in self.details.items())
        return f"{self.what:<75} {self.count} of {self.of}  {'met' if self.met else 'MISSED'}  ({details})"


def counts(histories: int, releases: int) -> list[Count]:
    """What is made up, through the rules that decide."""
    repeated = repeated_rollbacks(histories)
    quiet, equal = without_traffic(releases), equal_misbehaviour(releases)
    calls = {"rollbacks asked for": repeated.calls, "of them repetitions": repeated.repeated}
    return [
        Count("repeated rollbacks: releases taken back that nobody meant", histories, repeated.unmeant, calls),
        Count("releases without traffic: quarantined", releases, quiet.blamed, quiet.ends),
        Count("equal misbehaviour of both variants: the candidate blamed", releases, equal.blamed, equal.ends),
    ]


def main(arguments: list[str]) -> int:
    """0 if every target is met and no user saw a failure, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollback", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--runs", type=int, default=100, help="releases per case")
    parser.add_argument("--histories", type=int, default=10_000, help="made-up histories of repeated rollbacks")
    parser.add_argument("--releases", type=int, default=300, help="made-up releases without traffic, and as many alike")
    parser.add_argument("--gateways", type=int, default=1, help="side by side")
    parser.add_argument("--requests-per-s", type=float, default=100.0, help="of all users together")
    given = parser.parse_args(arguments)
    runs: list[RollbackRun] = []
    got: dict[str, object] = {"asked": 0, "failed": []}
    if given.runs:
        _live(given, runs, got)
    table = figures(runs) if runs else []
    never = counts(given.histories, given.releases)
    print("\n".join([*(figure.as_line() for figure in table), *(one.as_line() for one in never)]))
    failed = got["failed"]
    print(f"users asked {got['asked']} times, {len(failed) if isinstance(failed, list) else failed} without an answer")
    setting = {"runs": given.runs, "gateways": given.gateways, "requests_per_s": given.requests_per_s}
    value = {
        "benchmark": "rollback",
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "tick_s": PLAN.tick_s,
        **setting,
        "users": got,
        "figures": [{**asdict(figure), "met": figure.met} for figure in table],
        "made_up": [{**asdict(one), "met": one.met} for one in never],
        "measured": [asdict(one) for one in runs],
    }
    given.json.write_text(json.dumps(value, indent=1), encoding="utf-8")
    missed = any(figure.met is False for figure in table) or not all(one.met for one in never)
    return 1 if failed or missed else 0


def _live(given: argparse.Namespace, runs: list[RollbackRun], got: dict[str, object]) -> None:
    """Real gateways, users and controller, case after case."""
    with tempfile.TemporaryDirectory(prefix="slipway-rollback-") as folder:  # noqa: SIM117 - users end first
        with place(Path(folder), given.gateways) as (where, urls), users(given.requests_per_s, urls, got):
            for number in range(given.runs * len(CASES)):
                runs.append(run(where, CASES[number % len(CASES)], number + 1))
                print(f"{number + 1:4} {runs[-1]}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
