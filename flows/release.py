"""Release: one bundle through shadow, canary, full and watch - and back by itself when a check fails."""

from functools import partial
from pathlib import Path

from prefect import flow
from prefect.states import Failed

from configs.canonical import short
from configs.errors import require_all
from configs.project import Project, load_project
from delivery.clients.bundles.images import read_bundle
from delivery.release.state import AwaitApproval, Decision
from flows.background import Background
from flows.names import brief, named
from flows.parameters import BundleReference, PersonName, Reason
from flows.reporting import Outcome, log, show_markdown, show_table
from flows.steps import ShownSteps
from tasks.mirror import mirror_of
from tasks.preflight import before_release, warnings_before_release
from tasks.release.broken_stable import over_broken_stable
from tasks.release.controller import OnDecision
from tasks.release.outcome import ReleaseOutcome
from tasks.release.run import run_release
from tasks.release.site import open_site_of

ended: Outcome[ReleaseOutcome] = Outcome()  # of the flow that this process runs: release, refresh or watch


@flow(name="release", flow_run_name=named("release"))
def release(
    bundle: BundleReference,
    project: str = "configs/tutor",
    home: Path = Path(".slipway"),
    candidate_upstreams: list[str] | None = None,
    by: PersonName = "prefect",
    accept_blind_plan: bool = False,
    broken_stable: Reason | None = None,
    at_any_hour: bool = False,
) -> ReleaseOutcome:
    """Release a bundle in gated steps. The run fails when the bundle is refused or rolled back.

    A run that is killed loses nothing: stable takes all traffic within the lease, and the same release started again
    goes on where it was.

    Args:
        bundle: The bundle's digest, or a unique beginning of it.
        project: The folder of YAML files whose release plan and environment are used.
        home: Where bundles and the ledger are kept.
        candidate_upstreams: Serve the candidate from these vLLM replicas instead of the environment's.
        by: Who releases; kept in the ledger.
        accept_blind_plan: Release although a stage of the plan can detect nothing.
        broken_stable: Why what is live is given up first: the base serves instead of it, and absolute limits alone
            judge the candidate. Only for a stable that cannot be loaded, or fails.
        at_any_hour: Do not wait for the plan's release hours.
    """
    settings = load_project(Path(project))
    if broken_stable:
        settings = over_broken_stable(settings)
    checks = before_release(settings, home, candidate_upstreams, accept_blind_plan=accept_blind_plan)
    require_all("the release cannot start", checks)
    for text in warnings_before_release(settings.environment, settings.rollout):
        log(f"warning: {text}")
    outcome = roll_out(settings, bundle, home, candidate_upstreams, by, broken_stable or "", at_any_hour)
    ended.keep(outcome)
    show_release(outcome)
    return judged(outcome)


def judged(outcome: ReleaseOutcome) -> ReleaseOutcome:
    """What a flow returns: the outcome of a release that is live, else a failed state that holds it and says why."""
    if outcome.outcome == "live":
        return outcome
    name = {"rolled_back": "RolledBack", "refused": "Refused"}.get(outcome.outcome, "Failed")
    return Failed(name=name, message=outcome.reason, data=outcome)  # type: ignore[return-value] # a state, with it


def roll_out(
    project: Project,
    bundle: str,
    home: Path,
    candidate_upstreams: list[str] | None,
    by: str,
    broken_stable: str,
    at_any_hour: bool,
) -> ReleaseOutcome:
    """The controller - observe, decide, apply, record - through all steps, each of them a task of this run."""
    mirror_of(project.environment, home).fetch_bundle(bundle)
    manifest = read_bundle(home, bundle)
    steps = ShownSteps(f"{project.route} {brief(manifest.digest)}")
    with open_site_of(project, home) as site:
        return run_release(
            project,
            manifest,
            site,
            by=by,
            on_progress=steps.on_progress,
            on_decision=log_decisions(),
            steps=steps,
            candidate_upstreams=tuple(candidate_upstreams) if candidate_upstreams else None,
            broken_stable=broken_stable,
            at_any_hour=at_any_hour,
        )


def log_decisions() -> OnDecision:
    """A line in the log for each change of phase, stage or verdict, and a page for each approval that is asked for."""
    last: tuple[object, ...] = ()
    background = Background(log)

    def on_decision(decision: Decision) -> None:
        nonlocal last
        state = decision.state
        for action in decision.actions:
            if isinstance(action, AwaitApproval):
                how = (
                    "Run the deployment **approve** from here, or `slipway approve --by NAME --reason TEXT [--reject]`."
                )
                page = partial(show_markdown, f"approval {state.release_id}", f"{action.text}\n\n{how}")
                background.do(page)
        now = (state.phase, state.stage_index, decision.verdict, decision.reason)
        if now != last:
            says_it = decision.reason.startswith(f"{decision.verdict}: ")
            verdict = "" if says_it else f"{decision.verdict} - "
            log(f"{state.phase} {state.stage_index}: {verdict}{decision.reason}")
            last = now

    return on_decision


def show_release(outcome: ReleaseOutcome) -> None:
    """The release's stages with their evidence, in the Prefect UI."""
    rows = [
        {
            "stage": stage.stage,
            "share": f"{stage.share_bp / 100:g} %",
            "verdict": stage.verdict,
            "candidate requests": stage.requests,
            "stable requests": stage.stable_requests,
            "seconds": round(stage.seconds, 1),
            "evidence": "; ".join(stage.evidence),
        }
        for stage in outcome.stages
    ]
    key = f"release {outcome.release_id or short(outcome.bundle)}"
    show_table(key, rows, f"{outcome.outcome}: {outcome.reason}")
    text = f"**{outcome.outcome}** - {outcome.reason}\n\n```\n{render(outcome)}\n```"
    show_markdown(f"{key} outcome", text, "how the release ended, stage by stage")


def render(outcome: ReleaseOutcome) -> str:
    """A release's stages for the terminal."""
    lines = [
        f"  {stage.stage:10} {stage.share_bp / 100:5g} %  {stage.verdict:12} {stage.requests:4} requests beside "
        f"{stage.stable_requests} of stable, {stage.seconds:.0f} s\n" + "\n".join(f"      {e}" for e in stage.evidence)
        for stage in outcome.stages
    ]
    lines.append(f"{outcome.outcome}: {outcome.reason}")
    if outcome.breach_to_stable_s is not None:
        lines.append(
            f"first bad answer to 100 % stable: {outcome.breach_to_stable_s:.2f} s, of which from the decision on: "
            f"{outcome.decision_to_stable_s or 0:.2f} s"
        )
    return "\n".join(lines)
