"""Watch: go on judging what is live after its release has ended."""

from pathlib import Path

from prefect import flow

from configs.project import load_project
from flows.names import named
from flows.parameters import HoldbackBp, WatchSeconds
from flows.release import ended, judged, log_decisions, show_release
from flows.reporting import log
from flows.steps import ShownSteps
from tasks.release.outcome import ReleaseOutcome
from tasks.release.run import watch_live
from tasks.release.site import open_site_of


@flow(name="watch", flow_run_name=named("watch"))
def watch(
    project: str = "configs/tutor",
    home: Path = Path(".slipway"),
    duration_s: WatchSeconds = 3600.0,
    holdback_bp: HoldbackBp = 0,
) -> ReleaseOutcome | None:
    """Judge the live bundle for a while; it is rolled back when a check fails.

    Args:
        project: The folder of YAML files of the route.
        home: Where bundles and the ledger are kept.
        duration_s: For how long, in seconds; at most thirty days.
        holdback_bp: Users kept on the previous bundle for comparison, in basis points, at most 5000 (half of them); 0
            compares with limits only.
    """
    settings = load_project(Path(project))
    steps = ShownSteps(settings.route)
    with open_site_of(settings, home) as site:
        outcome = watch_live(
            site,
            settings.route,
            duration_s,
            holdback_bp=holdback_bp,
            on_progress=steps.on_progress,
            on_decision=log_decisions(),
            steps=steps,
        )
    if outcome is None:
        log("nothing was released yet: the base model has no predecessor to go back to")
        return None
    ended.keep(outcome)
    show_release(outcome)
    return judged(outcome)
