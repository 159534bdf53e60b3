"""Releases as Prefect flows, in a fake world: one that goes live, one that is taken back, one that is killed.

`python graph_child.py FOLDER live|back|killed`
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from prefect import flow
from prefect.states import Failed
from release_fakes import project
from release_scene import Scene, when

from flows.names import brief
from flows.release import log_decisions
from flows.reporting import result_of
from flows.steps import ShownSteps
from tasks.release.outcome import ReleaseOutcome
from tasks.release.run import run_release


def in_canary(scene: Scene) -> Callable[[], bool]:
    return lambda: scene.world.table.routes["tutor"].epoch.endswith("1-canary")


@flow(name="release")
def release(folder: Path, what: str) -> ReleaseOutcome:
    scene = Scene(folder)
    if what == "back":
        when(scene.world, in_canary(scene), lambda: scene.breaks(scene.new, 0.0))
    if what == "killed":
        when(scene.world, in_canary(scene), lambda: os.kill(os.getpid(), signal.SIGKILL))
    steps = ShownSteps(f"tutor {brief(scene.new.digest)}")
    outcome = run_release(
        project(scene.plan),
        scene.new,
        scene.site,
        on_progress=steps.on_progress,
        on_decision=log_decisions(),
        steps=steps,
    )
    if outcome.outcome == "live":
        return outcome
    return Failed(name="RolledBack", message=outcome.reason, data=outcome)  # type: ignore[return-value]


if __name__ == "__main__":
    print(result_of(release(Path(sys.argv[1]), sys.argv[2], return_state=True)).outcome)
