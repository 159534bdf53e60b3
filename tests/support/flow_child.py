"""A release as a Prefect flow, against a fake world, which kills Prefect's server in its canary.

`python flow_child.py FOLDER PROCESS_GROUP_OF_THE_SERVER`
"""

import os
import signal
import sys
import time
from pathlib import Path

from prefect import flow
from release_fakes import World, base_bundle, lora_bundle, project, site_of

from delivery.build.gate import GateDecision
from delivery.clients.ledger.ledger import Ledger
from flows.release import log_decisions
from flows.steps import ShownSteps
from tasks.release.run import run_release
from tasks.release.start import bootstrap


@flow
def release(folder: Path, server: int) -> None:
    world = World(folder / "world")
    ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
    site = site_of(world, folder, ledger)
    bootstrap(site, "tutor", base_bundle())
    bundle = lora_bundle(folder)
    ledger.add_build(bundle, GateDecision(passed=True, findings=()), world.clock())
    killed: list[int] = []

    def on_effect(effect: str) -> None:
        time.sleep(0.05)  # so that several artifacts are drawn on the way
        if not killed and world.table.routes["tutor"].epoch.endswith("1-canary"):
            killed.append(server)
            os.killpg(server, signal.SIGKILL)
            print("the server is killed", flush=True)

    world.on_effect = on_effect
    steps = ShownSteps("tutor")
    outcome = run_release(
        project(), bundle, site, on_progress=steps.on_progress, on_decision=log_decisions(), steps=steps
    )
    print(f"the release ended: {outcome.outcome}", flush=True)


if __name__ == "__main__":
    release(Path(sys.argv[1]), int(sys.argv[2]))
