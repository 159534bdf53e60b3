"""One bad candidate's way: released, broken in its canary, taken back; and what the gateways' records say about it."""

from dataclasses import dataclass

from benchmarks.rollback.place import Place
from delivery.build.bundle import Bundle
from delivery.traffic.records import Record
from tasks.release.outcome import ReleaseOutcome
from tasks.release.run import run_release


@dataclass(frozen=True)
class Case:
    """How a candidate goes bad: which share of its answers fail, and what ends it."""

    name: str
    share: float


CASES = (Case("fails outright", 1.0), Case("every third answer fails", 0.33))


@dataclass(frozen=True)
class RollbackRun:
    """Seconds by the gateways' and the controller's clock, which are this machine's.

    `bad_to_last_asked_s`: from the end of the first bad answer to the start of the last request that a user's turn
    gave to the candidate; from then on all are on stable. `bad_to_stable_s`: to the moment at which the controller saw
    every gateway serve stable's table. `decision_to_stable_s`: from its decision to there; the evidence sufficed at
    most one tick before the decision.
    """

    case: str
    outcome: str
    bad_answers: int  # that the candidate gave on users' turns
    bad_to_last_asked_s: float
    bad_to_stable_s: float
    decision_to_stable_s: float
    failed_user_requests: int


def run(place: Place, case: Case, number: int) -> RollbackRun:
    """Releases a fresh candidate and breaks it when its canary begins."""
    bundle = place.candidate(number)
    begun: list[str] = []

    def on_progress(done: int, total: int, text: str) -> None:
        if "0-canary" in text and not begun:
            begun.append(text)
            place.breaks(bundle, case.share)

    seen = {name: client.records(0, 1).last_seq for name, client in place.site.gateways.items()}
    outcome = run_release(place.project, bundle, place.site, by="benchmark", on_progress=on_progress)
    records = [
        record
        for name, client in place.site.gateways.items()
        for record in client.records(seen[name], 100_000).records
        if record.epoch.startswith(outcome.release_id)
    ]
    return _measured(case, bundle, outcome, records)


def _measured(case: Case, bundle: Bundle, outcome: ReleaseOutcome, records: list[Record]) -> RollbackRun:
    asked = [
        record
        for record in records
        if record.variant == bundle.variant_name and record.role == "served" and record.error != "tripped"
    ]
    bad = [record for record in asked if not record.ok]
    first_bad = min(record.started_at + record.duration_s for record in bad)
    decision_s = outcome.decision_to_stable_s
    if outcome.outcome != "rolled_back" or decision_s is None or outcome.decided_at is None:
        raise RuntimeError(f"{case.name}: the candidate was not rolled back: {outcome.outcome}, {outcome.reason}")
    return RollbackRun(
        case=case.name,
        outcome=outcome.reason,
        bad_answers=len(bad),
        bad_to_last_asked_s=max(0.0, max(record.started_at for record in asked) - first_bad),
        bad_to_stable_s=outcome.decided_at + decision_s - first_bad,
        decision_to_stable_s=decision_s,
        failed_user_requests=sum(not record.user_ok for record in records),
    )
