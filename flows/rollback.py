"""Rollback by hand: the release under way, or the one that is live, back to what was before it or to the base."""

from pathlib import Path
from typing import Literal

from prefect import flow
from prefect.states import Failed

from configs.project import load_project
from flows.parameters import Person, Reason
from flows.reporting import follow, show_markdown
from tasks.release.rollback import RollbackOutcome
from tasks.release.rollback import rollback as roll_back
from tasks.release.site import open_site_of


@flow(name="rollback", flow_run_name="rollback-{project}")
def rollback(
    by: Person,
    reason: Reason,
    project: str = "configs/tutor",
    home: Path = Path(".slipway"),
    to: Literal["previous", "base"] = "previous",
) -> RollbackOutcome:
    """Give stable all traffic, and quarantine the bundle that is taken back. Safe to repeat.

    The run fails when something is left to do, which it says.

    Args:
        by: Who decides; kept in the ledger.
        reason: Why; kept in the ledger.
        project: The folder of YAML files of the route.
        home: Where bundles and the ledger are kept.
        to: What to serve: the previous bundle, or the base model with its long prompt.
    """
    settings = load_project(Path(project))
    with open_site_of(settings, home) as site:
        outcome = roll_back(site, settings.route, by=by, reason=reason, to=to, on_progress=follow("rollback"))
    show_markdown(f"rollback {settings.route}", outcome.render(), "a rollback by hand")
    if outcome.outcome != "under_way":
        return outcome
    return Failed(name="UnderWay", message=outcome.problem, data=outcome)  # type: ignore[return-value] # as in release
