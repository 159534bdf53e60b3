"""Approve: a named person's answer to the stage of a release that waits for one, from Prefect's UI."""

from pathlib import Path
from typing import Literal

from prefect import flow

from configs.project import load_project
from flows.names import named
from flows.parameters import PersonName, Reason
from flows.reporting import show_markdown
from tasks.release.run import approve as answer
from tasks.release.site import open_site_of


@flow(name="approve", flow_run_name=named("approve"))
def approve(
    decision: Literal["approve", "reject"],
    by: PersonName,
    reason: Reason,
    project: str = "configs/tutor",
    home: Path = Path(".slipway"),
) -> str:
    """Answer for the stage that waits; the release's own run goes on by itself, or takes the release back.

    Args:
        decision: Whether the release may go on; a rejection rolls it back.
        by: Your name; kept in the ledger.
        reason: Why; kept in the ledger.
        project: The folder of YAML files of the route.
        home: Where bundles and the ledger are kept.
    """
    settings = load_project(Path(project))
    with open_site_of(settings, home) as site:
        release_id = answer(site, settings.route, approved=decision == "approve", by=by, reason=reason)
    said = "approved" if decision == "approve" else "rejected"
    show_markdown(f"approval {release_id}", f"**{said}** by {by}: {reason}", "a person's decision")
    return release_id
