"""On an environment of pods that is up: how long rollbacks take, and how soon new vLLM pods have users.

`python -m benchmarks.cluster --project FOLDER --bundle DIGEST --json PATH [--rollbacks N] [--replacements N]`

Every round releases the bundle under a plan of seconds and takes it back; nothing is quarantined. Then one vLLM pod
after another is deleted. Users ask all the while, and none of them may notice. Take an environment that nobody needs.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from benchmarks.cluster.rounds import ClusterUnderTest, go_live, joined, open_pods, rolled_back_s
from benchmarks.rollback.place import users
from configs.project import load_project
from delivery.clients.bundles.images import read_bundle
from tasks.release.site import open_site_of

ROLLBACK_S = 2.0
JOINED_S = 10.0


@dataclass(frozen=True)
class ClusterFigure:
    """Seconds, sorted; the target is for the 99th percentile."""

    what: str
    values: Sequence[float]
    target_s: float | None

    def as_dict(self) -> dict[str, Any]:
        """For the file."""
        p50, p95, p99 = (round(float(q), 3) for q in numpy.quantile(self.values, [0.5, 0.95, 0.99]))
        found = {"what": self.what, "samples": len(self.values), "p50": p50, "p95": p95, "p99": p99}
        met = None if self.target_s is None else p99 < self.target_s
        return found | {"max": round(max(self.values), 3), "target_p99": self.target_s, "met": met}


def main(arguments: list[str]) -> int:
    """0 if every target is met and every user got an answer, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument(
        "--project", type=Path, required=True, help="whose environment.yaml says target.kind: kubernetes"
    )
    parser.add_argument("--home", type=Path, default=Path(".slipway"), help="the state folder")
    parser.add_argument("--bundle", required=True, help="which one is released and taken back")
    parser.add_argument("--users-url", action="append", required=True, help="where users ask; may be repeated")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--rollbacks", type=int, default=100)
    parser.add_argument("--replacements", type=int, default=20)
    parser.add_argument("--requests-per-s", type=float, default=20.0, help="of all users together")
    given = parser.parse_args(arguments)
    project, home = load_project(given.project), given.home.absolute()
    got: dict[str, Any] = {}
    rollbacks: list[float] = []
    replaced = []
    with users(given.requests_per_s, given.users_url, got), open_site_of(project, home) as site:
        there = ClusterUnderTest(project, site, open_pods(project, home))
        bundle = read_bundle(home, given.bundle)
        for number in range(given.rollbacks):
            go_live(there, bundle)
            rollbacks.append(rolled_back_s(there))
            print(f"rollback {number + 1:4}: {rollbacks[-1]:.3f} s", flush=True)
        if given.replacements:
            go_live(there, bundle)
        for number in range(given.replacements):
            replaced.append(joined(there))
            print(f"replacement {number + 1:4}: {replaced[-1]}", flush=True)
        if given.replacements:
            rolled_back_s(there)
        gateways, replicas = len(site.gateways), len(there.pods.replicas)
    every = [
        ClusterFigure("from `rollback` to stable alone on every gateway, s", rollbacks, ROLLBACK_S),
        ClusterFigure(
            "from a new pod's vLLM answering to its users, s", [r.from_vllm_ready_s for r in replaced], JOINED_S
        ),
        ClusterFigure("from a new pod being ready to its users, s", [r.from_cluster_ready_s for r in replaced], None),
    ]
    figures = [one.as_dict() for one in every if one.values]
    found = {
        "benchmark": "cluster",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "gateways": gateways,
        "replicas": replicas,
        "requests_per_s": given.requests_per_s,
        "asked": got["asked"],
        "failed": got["failed"],
        "figures": figures,
        "measured": {"rollbacks": rollbacks, "joined": [vars(one) for one in replaced]},
    }
    given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(json.dumps(figure) for figure in figures))
    print(f"users asked {got['asked']} times, {len(got['failed'])} without an answer")
    return 1 if got["failed"] or any(figure["met"] is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
