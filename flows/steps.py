"""A release's steps as tasks of its flow's run: each with its state, its progress and what it compared.

The release itself is the controller's and the ledger's. What is shown may be late or missing when Prefect's server is
slow or away; nothing here waits for it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from prefect import State, allow_failure, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from delivery.progress import Progress, silent
from delivery.release.state import ReleaseState, StageRecord
from delivery.release.steps import Step, how_it_ended
from flows.background import Background
from flows.reporting import follow, log, show_table

NAMES = {"taken back": "RolledBack", "refused": "Refused"}  # of the states of steps that are not green

GoOn = Callable[[], ReleaseState]


class ShownSteps:
    """Wraps each step in a task. `title` begins the names: the route and the bundle."""

    def __init__(self, title: str):
        self._title = title
        self._before: State[Any] | None = None
        self._progress: Progress = silent
        self._background = Background(log)

    def on_progress(self, done: int, total: int, text: str) -> None:
        """What the controller says, in the task of the step that it is at."""
        self._progress(done, total, text)

    def was_done(self, step: Step, record: StageRecord) -> None:
        """A stage that an earlier run of this release saw through: shown as done, not as run again."""
        shown = _was_done.with_options(task_run_name=f"{self._title} {step.title}")
        self._before = shown(record, wait_for=self._wait_for(), return_state=True)

    def take(self, step: Step, go_on: GoOn) -> ReleaseState:
        """The step, as a task that is green only when it passed."""
        name = f"{self._title} {step.title}"
        after: list[ReleaseState] = []

        def go() -> State[None]:
            self._progress = follow(name)
            after.append(go_on())
            return self._shown(name, step, after[0])

        shown = a_step.with_options(task_run_name=name)
        ended: State[Any] = shown(go, wait_for=self._wait_for(), return_state=True)
        self._before = ended
        if not after:
            ended.result()  # raises what ended the step
        return after[0]

    def _wait_for(self) -> list[object]:
        """An arrow from the step before, whichever way that ended."""
        return [] if self._before is None else [allow_failure(self._before)]

    def _shown(self, name: str, step: Step, state: ReleaseState) -> State[None]:
        end, reason = how_it_ended(step, state)
        record = state.stages[-1] if state.stages and step.key == f"stage {state.stages[-1].stage}" else None
        if record is not None:
            self._background.do(partial(show_stage, name, record))
        if end in NAMES:
            return Failed(name=NAMES[end], message=reason)
        self._progress(1, 1, reason)  # its bar is full
        return Completed(message=reason)


def show_stage(name: str, record: StageRecord) -> None:
    """What one stage compared, a line each."""
    rows = [
        {"verdict": line.partition(": ")[0], "what was compared": line.partition(": ")[2]} for line in record.evidence
    ]
    requests = f"{record.requests} requests beside {record.stable_requests} of stable"
    show_table(name, rows, f"{record.verdict}: {requests}, {record.seconds:.0f} s")


@task(cache_policy=NO_CACHE, persist_result=False)
def a_step(go: Callable[[], State[None]]) -> State[None]:
    """The task that a step is: it ends in the state that the step says."""
    return go()


@task(cache_policy=NO_CACHE, persist_result=False)
def _was_done(record: StageRecord) -> State[None]:
    text = f"{record.verdict} in an earlier run of this release: {'; '.join(record.evidence)}"
    return Completed(name="DoneBefore", message=text)
