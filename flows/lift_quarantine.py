"""Lift a quarantine: a named person lets a bundle be released again, from Prefect's UI."""

import time
from contextlib import closing
from pathlib import Path

from prefect import flow

from configs.project import load_project
from flows.names import named
from flows.parameters import BundleReference, PersonName, Reason
from flows.reporting import show_markdown
from tasks.release.quarantine import lift_quarantine as lift
from tasks.release.site import open_ledger


@flow(name="lift-quarantine", flow_run_name=named("lift quarantine"))
def lift_quarantine(
    bundle: BundleReference,
    by: PersonName,
    reason: Reason,
    project: str = "configs/tutor",
    home: Path = Path(".slipway"),
) -> str:
    """Let a bundle be released again that was put into quarantine. The eval gate and the stages judge it as ever.

    Args:
        bundle: The bundle's digest, or a unique beginning of it.
        by: Who decides; kept in the ledger.
        reason: Why; kept in the ledger.
        project: The folder of YAML files whose ledger is meant.
        home: Where bundles and the ledger are kept.
    """
    settings = load_project(Path(project))
    with closing(open_ledger(settings.environment, home)) as ledger:
        said = lift(ledger, home, bundle, by=by, reason=reason, now=time.time())
    show_markdown(f"quarantine {bundle}", f"**lifted** by {by}: {reason}\n\n{said}", "a person's decision")
    return said
