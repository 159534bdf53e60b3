"""Refresh: build, then release what the gate lets through, where anything changed. What the weekly schedule runs."""

import time
from pathlib import Path

from prefect import flow
from prefect.states import Cancelled, Completed

from configs.project import Project
from flows.build import build, refusal
from flows.missed import newer_run_that_is_due
from flows.names import named
from flows.parameters import PersonName
from flows.release import ended, judged, release
from flows.reporting import log, result_of, show_markdown
from tasks.preflight import before_refresh, load_for
from tasks.release.outcome import ReleaseOutcome
from tasks.release.refresh import RefreshLook, look, note_end, note_look

SCHEDULE = "schedule"  # who asks for what no person asks for


@flow(name="refresh", flow_run_name=named("refresh"))
def refresh(
    project: str = "configs/tutor",
    home: Path = Path(".slipway"),
    by: PersonName = SCHEDULE,
    accept_blind_plan: bool = False,
) -> ReleaseOutcome:
    """Build a bundle from the newest data and release it if its evals pass.

    A scheduled run does nothing where no input changed since the last one, too little was approved in the review, and
    users ask for what they asked for before.
    Of several scheduled runs that were missed only the newest one does; the others end as cancelled.

    Args:
        project: The folder of YAML files that says what is built and released.
        home: Where datasets, adapters, bundles and the ledger are kept.
        by: Who asked for it; kept in the ledger. With another name than `schedule` it always runs.
        accept_blind_plan: Release although a stage of the plan can detect nothing.
    """
    newer = newer_run_that_is_due()
    if newer:
        text = f"missed, and made up for by the run {newer}, which is due as well"
        return Cancelled(name="MadeUpFor", message=text)  # type: ignore[return-value] # a state, as in release
    settings = load_for(
        Path(project),
        home,
        "nothing can be built and released",
        lambda found: before_refresh(found, home, accept_blind_plan),
    )
    found = look(settings, home, "" if by == SCHEDULE else by)
    log(found.decision.reason)
    note_look(settings, home, found, by, time.time())
    if not found.decision.runs:
        ended.keep(found.nothing)
        show(found.nothing)
        what = found.decision.reason
        return Completed(name="NothingToDo", message=what, data=found.nothing)  # type: ignore[return-value] # a state
    built = result_of(build(project=project, home=home, return_state=True))
    if not built.passed:
        text = f"the eval gate refused it: {refusal(built.gate)}"
        refused = ReleaseOutcome(
            release_id="", route=settings.route, bundle=built.bundle, outcome="refused", reason=text
        )
        return _at_the_end(settings, home, found, by, refused)
    state = release(
        bundle=built.bundle,
        project=project,
        home=home,
        by=by,
        accept_blind_plan=accept_blind_plan,
        return_state=True,
    )
    return _at_the_end(settings, home, found, by, result_of(state))


def _at_the_end(project: Project, home: Path, found: RefreshLook, by: str, outcome: ReleaseOutcome) -> ReleaseOutcome:
    """One paragraph says why it did or did not release: in the ledger, in the run's state, and on its page."""
    told = note_end(project, home, found, by, time.time(), outcome)
    ended.keep(told)
    show(told)
    if told.outcome == "live":
        return Completed(message=told.reason, data=told)  # type: ignore[return-value] # a state, with it
    return judged(told)


def show(outcome: ReleaseOutcome) -> None:
    """The paragraph in the Prefect UI."""
    show_markdown(f"refresh {outcome.route}", outcome.reason, "why it did or did not release")
