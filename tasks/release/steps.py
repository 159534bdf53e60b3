"""How a release's steps are gone through: whoever shows them wraps each of them."""

from collections.abc import Callable
from typing import Protocol

from delivery.release.state import ReleaseState, StageRecord
from delivery.release.steps import Step


class Steps(Protocol):
    """What a controller takes its steps by: Prefect's tasks, or nothing at all."""

    def was_done(self, step: Step, record: StageRecord) -> None:
        """A stage that an earlier controller saw through."""

    def take(self, step: Step, go_on: Callable[[], ReleaseState]) -> ReleaseState:
        """Calls `go_on`, which returns when the step is over, and gives its state back."""


class StraightOn:
    """One step after the other, shown to nobody."""

    def was_done(self, step: Step, record: StageRecord) -> None:
        """It needs no telling."""

    def take(self, step: Step, go_on: Callable[[], ReleaseState]) -> ReleaseState:
        """The step itself."""
        return go_on()


STRAIGHT_ON = StraightOn()
