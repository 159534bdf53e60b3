"""Rollback by hand: the release under way, or the one that is live, back to what was before it or to the base."""

from pathlib import Path
from typing import Literal

from prefect import flow
from prefect.states import Failed

from configs.project import load_project
from flows.names import named
from flows.parameters import Person, Reason, Reference
from flows.reporting import follow, show_markdown
from tasks.release.rollback import rollback_in
from tasks.release.rollback_outcome import RollbackOutcome


@flow(name="rollback", flow_run_name=named("rollback"))
def rollback(
    by: Person,
    reason: Reason,
    release: Reference | None = None,
    project: str = "configs/tutor",
    home: Path = Path(".slipway"),
    to: Literal["previous", "base"] = "previous",
    quarantine: bool = True,
) -> RollbackOutcome:
    """Give stable all traffic, and quarantine the bundle that is taken back. Safe to repeat.

    The run fails when something is left to do, or when it is not clear which release is meant; it says so.

    Args:
        by: Who decides; kept in the ledger.
        reason: Why; kept in the ledger.
        release: Its id, or a unique beginning of its bundle's digest. By default the newest release, and nothing more
            once that is taken back.
        project: The folder of YAML files of the route.
        home: Where bundles and the ledger are kept.
        to: What to serve: the previous bundle, or the base model with its long prompt.
        quarantine: Whether the bundle is ruled out until a named person lifts it.
    """
    settings = load_project(Path(project))
    outcome = rollback_in(
        settings,
        home,
        by=by,
        reason=reason,
        release=release,
        to=to,
        quarantine=quarantine,
        on_progress=follow("rollback"),
    )
    text = outcome.render(f"slipway rollback --project {project}", reason)
    show_markdown(f"rollback {settings.route}", text, "a rollback by hand")
    if outcome.is_done:
        return outcome
    name = "Unclear" if outcome.outcome == "unclear" else "UnderWay"
    return Failed(name=name, message=outcome.problem or text, data=outcome)  # type: ignore[return-value] # as in release
