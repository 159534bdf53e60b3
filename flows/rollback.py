"""Rollback by hand: the release under way, or the one that is live, back to what was before it or to the base."""

from pathlib import Path
from typing import Any, Literal

from prefect import State, flow
from prefect.states import Completed, Failed

from configs.project import load_project
from flows.names import named
from flows.parameters import BundleReference, PersonName, Reason
from flows.reporting import follow, show_markdown
from flows.steps import a_step
from tasks.release.rollback import rollback_in
from tasks.release.rollback_outcome import RollbackOutcome


@flow(name="rollback", flow_run_name=named("rollback"))
def rollback(
    by: PersonName,
    reason: Reason,
    release: BundleReference | None = None,
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
    name = f"{settings.route} back to {'the base' if to == 'base' else 'what was before'}"
    outcomes: list[RollbackOutcome] = []

    def take_back() -> State[None]:
        outcome = rollback_in(
            settings,
            home,
            by=by,
            reason=reason,
            release=release,
            to=to,
            quarantine=quarantine,
            on_progress=follow(name),
        )
        outcomes.append(outcome)
        return _shown(outcome)

    ended: State[Any] = a_step.with_options(task_run_name=name)(take_back, return_state=True)
    if not outcomes:
        ended.result()  # raises what ended the step
    text = outcomes[0].render(f"slipway rollback --project {project}", reason)
    show_markdown(f"rollback {settings.route}", text, "a rollback by hand")
    if outcomes[0].is_done:
        return outcomes[0]
    message = outcomes[0].problem or text
    return Failed(name=ended.name, message=message, data=outcomes[0])  # type: ignore[return-value] # as in release


def _shown(outcome: RollbackOutcome) -> State[None]:
    said = f"{outcome.serves} serves route {outcome.route}: {outcome.reason}"
    if outcome.is_done:
        return Completed(message=said)
    return Failed(name="Unclear" if outcome.outcome == "unclear" else "UnderWay", message=outcome.problem or said)
