"""The canary analysis' table: `python -m benchmarks.canary --json PATH [--runs N] [--plot PATH] [--only PART]`."""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.canary import power, promotion, trips, validity
from benchmarks.canary.plot import draw
from benchmarks.canary.row import TableRow

TablePart = Callable[[int, int], list[TableRow]]  # of runs and a seed
FEWER = 4  # a power of 0.9 needs fewer runs than an error of 0.01


def parts() -> dict[str, tuple[TablePart, int]]:
    """By name: what simulates the rows, and by what the number of runs is divided."""
    named: dict[str, tuple[TablePart, int]] = {
        "equal": (validity.equal, 1),
        "drift": (validity.drift, 1),
        "ramp": (validity.ramp, 1),
        "slow-traffic": (validity.slow_traffic, 1),
        "sticky": (validity.sticky_users, 1),
        "absolute": (validity.absolute_limits, 1),
        "outage": (power.outage, FEWER),
    }
    for number, case in enumerate(power.CASES, start=1):
        named[f"power-{number}"] = partial(power.power, case), FEWER
    named["boundary"] = promotion.at_the_boundary, 1
    named["promotion"] = promotion.of_an_equal_candidate, 10 * FEWER
    # a part's place gives its seed: new ones come last
    named["sticky-ten"] = validity.sticky_users_many_checks, 1
    named["sticky-power"] = power.of_sticky_users, FEWER
    named["shadow"] = validity.shadow_pairs, 1
    named["shadow-power"] = power.in_shadow, FEWER
    named["trips"] = trips.of_an_equal_candidate, 60
    named["trips-outage"] = trips.of_a_broken_candidate, 200
    return named


def main(arguments: list[str]) -> int:
    """0 if every target is met, 1 if one is missed."""
    known = parts()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canary", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--plot", type=Path, help="where the picture goes (its suffix says which kind)")
    parser.add_argument("--runs", type=int, default=20_000, help="simulated releases per row")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--only", choices=list(known), action="append", help="one part of the table; may be repeated")
    given = parser.parse_args(arguments)
    rows: list[TableRow] = []
    seconds: dict[str, float] = {}
    for number, (name, (simulate, divisor)) in enumerate(known.items()):
        if given.only and name not in given.only:
            continue
        began = time.perf_counter()
        found = simulate(max(10, given.runs // divisor), given.seed + 1000 * number)
        seconds[name] = round(time.perf_counter() - began, 1)
        rows += found
        print("\n".join(row.as_line() for row in found), flush=True)
        _write(given.json, rows, seconds, given.seed)
    if given.plot is not None:
        draw(rows, given.plot)
    missed = [row for row in rows if row.met is False]
    print(f"{len(rows) - len(missed)} of {len(rows)} rows without a miss, {sum(seconds.values()):.0f} s")
    return 1 if missed else 0


def _write(path: Path, rows: list[TableRow], seconds: dict[str, float], seed: int) -> None:
    value = {
        "benchmark": "canary",
        "python": platform.python_version(),
        "seed": seed,
        "seconds": seconds,
        "rows": [row.as_json() for row in rows],
    }
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
