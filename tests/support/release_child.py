"""A controller in a process of its own, which kills itself once a given stage begins.

`python release_child.py HOME ADMIN_URL VLLM_PORT BUNDLE STAGE`
"""

import os
import signal
import sys
from pathlib import Path

from release_fakes import project

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from delivery.clients.bundles.images import read_bundle
from delivery.clients.gateway import GatewayClient
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.vllm import VllmClient
from tasks.release.run import run_release
from tasks.release.site import Site

TOKEN = "a-token-for-tests-of-32-characters-and-more"
PLAN = RolloutPlan(
    tick_s=0.2,
    lease_s=3,
    monitor_timeout_s=5,
    max_hold_s=300,
    drain_s=0.5,
    stages=(
        Stage(kind="shadow", mirror_bp=5000, min_requests=10),
        Stage(kind="canary", share_bp=3000, min_requests=10),
        Stage(kind="full", share_bp=9000, min_requests=10),
    ),
    checks=(Check(metric="error_rate", max=0.2),),
)


def real_site(home: Path, admin_url: str, vllm_port: int) -> Site:
    environment = project().environment
    vllm = environment.vllm.model_copy(update={"port": vllm_port})
    return Site(
        environment=environment.model_copy(update={"vllm": vllm}),
        ledger=Ledger(f"sqlite:///{home}/ledger.sqlite"),
        gateways={admin_url: GatewayClient(admin_url, TOKEN)},
        vllm=VllmClient,
        home=home,
    )


def main(home: str, admin_url: str, vllm_port: str, bundle: str, stage: str) -> None:
    def on_progress(done: int, total: int, text: str) -> None:
        if stage in text:
            os.kill(os.getpid(), signal.SIGKILL)

    site = real_site(Path(home), admin_url, int(vllm_port))
    run_release(project(PLAN), read_bundle(Path(home), bundle), site, on_progress=on_progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
