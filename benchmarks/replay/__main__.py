"""A million rows through a release plan: `python -m benchmarks.replay --json PATH [--rows N] [--requests-per-s X]`.

The log is made up with a fixed seed: one candidate that stays good, and one that turns bad in the middle. The plan's
stages are as long as the log, so that every row is judged. Seconds are processor seconds of this one process.
"""

import argparse
import json
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pyarrow import parquet

from benchmarks.replay.made_up import Behaviour, made_up
from configs.rollout import RolloutPlan
from delivery.clients.traffic_log import read_traffic
from delivery.release.replay import replay

TARGET_S = 60.0
CASES = {"stays good": Behaviour(), "turns bad in the middle": Behaviour(late_errors=0.2)}


def plan_for(log_s: float) -> RolloutPlan:
    """A canary that cannot end before the log."""
    return RolloutPlan.model_validate(
        {
            "stages": [
                {"kind": "canary", "share_bp": 1000, "min_duration_s": log_s, "max_duration_s": 2 * log_s},
                {"kind": "full", "share_bp": 9500},
            ],
            "checks": [
                {"metric": "error_rate", "max": 0.05},
                {"metric": "error_rate", "max_increase": 0.03, "stages": ["canary", "full"]},
                {"metric": "latency_p95_s", "max_ratio": 1.5, "max_increase": 0.2, "stages": ["canary", "full"]},
            ],
        }
    )


def measure(name: str, rows: int, requests_per_s: float, folder: Path) -> dict[str, Any]:
    """One log, written, read and replayed."""
    file = folder / "made-up.parquet"
    parquet.write_table(made_up(rows, requests_per_s=requests_per_s, candidate=CASES[name], seed=2026), file)
    began = time.process_time()
    recorded = read_traffic(file)
    read = time.process_time()
    found = replay(
        plan_for(rows / requests_per_s), recorded.traffic, candidate=recorded.candidate, stable=recorded.stable
    )
    done = time.process_time()
    return {
        "case": name,
        "rows": rows,
        "requests_per_s": requests_per_s,
        "ticks": round(found.after_s),
        "rows_used": found.rows_used,
        "outcome": found.outcome,
        "reason": found.reason,
        "read_s": round(read - began, 2),
        "replay_s": round(done - read, 2),
        "total_s": round(done - began, 2),
        "target_s": TARGET_S,
    }


def main(arguments: list[str]) -> int:
    """0 if the target is met, 1 if it is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--requests-per-s", type=float, default=100.0, help="with fewer, the log has more ticks")
    given = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            found.append(measure(name, given.rows, given.requests_per_s, Path(folder)))
            shown = found[-1]
            print(
                f"{name}: {shown['outcome']} after {shown['rows_used']} rows and {shown['ticks']} ticks; "
                f"read {shown['read_s']} s, replayed {shown['replay_s']} s",
                flush=True,
            )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    value = {"benchmark": "replay", "python": platform.python_version(), "peak_memory_mib": peak_mib, "cases": found}
    given.json.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return 0 if all(case["total_s"] <= TARGET_S for case in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
