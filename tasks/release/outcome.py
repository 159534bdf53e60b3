"""How a release ended, as people and programs want it."""

from typing import Literal

from configs.project import Project
from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.release.state import ReleaseState, StageRecord


class ReleaseOutcome(Strict):
    """How a release ended. Times are seconds by the controller's clock.

    `breach_to_stable_s`: from the start of the first bad candidate request that counted in the failed check, to the
    moment at which every gateway was seen to serve stable alone. `decision_to_stable_s`: from the decision to there.
    """

    release_id: str
    route: str
    bundle: str
    outcome: Literal["live", "rolled_back", "refused", "unfinished"]
    reason: str
    stages: tuple[StageRecord, ...] = ()
    decided_at: float | None = None  # when it was decided to roll back
    breach_to_stable_s: float | None = None
    decision_to_stable_s: float | None = None
    user_requests: int = 0
    failed_user_requests: int = 0
    seconds: float = 0.0


def release_outcome(state: ReleaseState, started_at: float, now: float) -> ReleaseOutcome:
    """A release's state as people want it."""
    note, done = state.rollback, state.rollback.confirmed_at if state.rollback else None
    first = note.first_bad_at if note else None
    results = {"live": "live", "rolled_back": "rolled_back", "refused": "refused"}
    return ReleaseOutcome.model_validate(
        {
            "release_id": state.release_id,
            "route": state.route,
            "bundle": state.candidate.bundle,
            "outcome": results.get(state.phase, "unfinished"),
            "reason": note.reason if note else state.reason,
            "stages": state.stages,
            "decided_at": note.decided_at if note else None,
            "breach_to_stable_s": max(0.0, done - first) if done is not None and first is not None else None,
            "decision_to_stable_s": max(0.0, done - note.decided_at) if note and done is not None else None,
            "user_requests": state.evidence.user_requests,
            "failed_user_requests": state.evidence.failed_user_requests,
            "seconds": max(0.0, now - started_at),
        }
    )


def no_release(project: Project, bundle: Bundle, outcome: Literal["live", "refused"], reason: str) -> ReleaseOutcome:
    """The outcome where none had to begin, or none may."""
    return ReleaseOutcome(release_id="", route=project.route, bundle=bundle.digest, outcome=outcome, reason=reason)
