"""Whether a refresh has anything to do, and what came of it, in one paragraph that people read everywhere."""

from collections.abc import Mapping

from configs.strict import Strict
from delivery.build.drift import DriftEvidence

BEGINS = {
    "live": "is live now",
    "rolled_back": "was released and rolled back",
    "refused": "was not released",
    "unfinished": "was built, and its release has not ended",
}


class LastRefresh(Strict):
    """The last refresh of a route that came to its end. `inputs` are digests by name, `at` is UNIX seconds."""

    inputs: dict[str, str]
    at: float


class RefreshSaid(Strict):
    """What the newest refresh of a route said of itself."""

    said: str
    by: str
    at: float  # UNIX seconds
    ended: bool  # False: it had only begun when it said so


class RefreshDecision(Strict):
    """`reason` is a paragraph for people."""

    runs: bool
    reason: str


def decide_refresh(
    inputs: Mapping[str, str],
    before: Mapping[str, str] | None,
    newly_approved: int,
    refresh_at: int | None,
    asked_by: str = "",
    drift: DriftEvidence | None = None,
) -> RefreshDecision:
    """`inputs` are digests by name, `before` those of the last refresh that came to its end (None: there was none).

    `newly_approved` counts approved items that no dataset version has read; `refresh_at` of them make a refresh run.
    `asked_by` is the person who wants it now; empty: the schedule. `drift` is None where nobody looked for any.
    """
    reasons = [f"{asked_by} asked for it"] if asked_by else []
    if before is None:
        reasons.append("no refresh of this route has come to its end before")
    changed = sorted(name for name in {*inputs, *before} if inputs.get(name) != before.get(name)) if before else []
    if changed:
        reasons.append(f"changed since the last refresh: {', '.join(changed)}")
    if refresh_at is not None and newly_approved >= refresh_at:
        limit = f"review.refresh_at is {refresh_at}"
        reasons.append(f"{newly_approved} items were approved that no dataset version has read yet ({limit})")
    if drift is not None and drift.drifted:
        reasons.append(drift.told)
    if reasons:
        return RefreshDecision(runs=True, reason=f"The refresh runs: {'; '.join(reasons)}.")
    return RefreshDecision(runs=False, reason=_nothing(inputs, newly_approved, refresh_at, drift))


def concluded(decision: RefreshDecision, bundle: str, outcome: str, reason: str) -> str:
    """The paragraph of a refresh that ran: why it did, and why its bundle was released or was not.

    `bundle` is as people see it, `outcome` one of a release's, `reason` what the gate or the release said.
    """
    return f"{decision.reason} Bundle {bundle} {BEGINS[outcome]}: {reason.rstrip('.')}."


def _nothing(
    inputs: Mapping[str, str], newly_approved: int, refresh_at: int | None, drift: DriftEvidence | None
) -> str:
    names = ", ".join(sorted(inputs))
    said = f"The refresh does nothing: since the last one nothing has changed in {names}."
    if drift is not None:
        said += f" {drift.told[0].upper()}{drift.told[1:]}."
    if refresh_at is None and not newly_approved:
        return said
    limit = "no number of them makes" if refresh_at is None else f"{refresh_at} of them make"
    waiting = f"{newly_approved} items were approved that no dataset version has read yet"
    return f"{said} {waiting}; {limit} it run (review.refresh_at)."
