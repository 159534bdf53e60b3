"""The verbs of a release: run it, approve a stage, watch what is live."""

import secrets
import time

from configs.canonical import short
from configs.errors import SlipwayError
from configs.project import Project
from configs.watch import require_watch
from delivery.build.bundle import Bundle
from delivery.progress import Progress, silent
from delivery.release.decide import new_state, watching
from delivery.release.messages import of_refusal
from delivery.release.state import ReleaseState
from tasks.notify.courier import delivering
from tasks.notify.told import put_in_outbox
from tasks.release.broken_stable import give_up_stable, over_broken_stable
from tasks.release.controller import Controller, OnDecision, ignore
from tasks.release.cursors import cursors, reading_from_now
from tasks.release.left_behind import GRACE_S, asked_back
from tasks.release.outcome import ReleaseOutcome, no_release, release_outcome
from tasks.release.own_vllm import require_own_vllm
from tasks.release.refusals import wait_for_hours, why_not_here, why_unfit
from tasks.release.site import LEASE_TTL_S, Site, served_as, why_not_servable
from tasks.release.steps import STRAIGHT_ON, Steps

PATIENCE_S = 3.0  # for a supervisor that has the environment's lease for a moment


def run_release(
    project: Project,
    bundle: Bundle,
    site: Site,
    *,
    by: str = "slipway",
    on_progress: Progress = silent,
    on_decision: OnDecision = ignore,
    steps: Steps = STRAIGHT_ON,
    candidate_upstreams: tuple[str, ...] | None = None,
    broken_stable: str = "",
    at_any_hour: bool = False,
) -> ReleaseOutcome:
    """Takes a bundle through the stages of the project's plan, or goes on where a killed controller left off.

    Another bundle's unfinished release is superseded: rolled back, or finished when it is committed already. One that
    waits for an approval is superseded even while its controller runs. A bundle that is refused supersedes nothing.
    `candidate_upstreams`: vLLM replicas for the candidate other than the environment's (blue and green).
    Waits for the plan's release hours first, unless it goes on with a release or comes `at_any_hour`.
    `broken_stable`: why what is live is given up first: the base serves instead, and only absolute limits count.
    Who is to be told of it is told beside it. LeaseHeldError: somebody else controls the environment.
    """
    with delivering(site.environment, site.ledger, on_progress, site.clock):
        outcome = _run_release(
            project,
            bundle,
            site,
            by,
            on_progress,
            on_decision,
            steps,
            candidate_upstreams,
            broken_stable,
            at_any_hour,
        )
        if outcome.outcome == "refused" and not outcome.release_id:
            refused = of_refusal(site.name, project.route, bundle.digest, outcome.reason, site.clock())
            put_in_outbox(site.environment, site.ledger, refused, on_progress)
        return outcome


def _run_release(
    project: Project,
    bundle: Bundle,
    site: Site,
    by: str,
    on_progress: Progress,
    on_decision: OnDecision,
    steps: Steps,
    candidate_upstreams: tuple[str, ...] | None,
    broken_stable: str,
    at_any_hour: bool,
) -> ReleaseOutcome:
    wrong = why_not_here(project, bundle, candidate_upstreams) or wait_for_hours(
        site, project, at_any_hour, on_progress
    )
    if wrong:
        return no_release(project, bundle, "refused", wrong)
    site.take_lease(_ask_a_waiting_one_to_end(site, project.route, bundle, by) or PATIENCE_S)
    try:
        waiting = site.ledger.unfinished(site.name, project.route)
        if waiting is not None and waiting.candidate.bundle != bundle.digest:
            against_it = why_unfit(site, bundle)
            if against_it:
                return no_release(project, bundle, "refused", against_it)
            on_progress(0, 0, f"release {waiting.release_id} is unfinished and superseded")
            _supersede(site, waiting, bundle, by, on_progress, on_decision)
            waiting = None
        if waiting is not None:
            on_progress(0, 0, f"release {waiting.release_id} goes on in phase {waiting.phase}")
            return _drive(site, waiting, on_progress, on_decision, steps)
        taken_back = asked_back(site, project.route)
        if taken_back is not None:
            on_progress(0, 0, f"the rollback of release {taken_back.release_id} was left behind and is finished first")
            _drive(site, reading_from_now(site, taken_back), on_progress, ignore)
        if broken_stable:
            project = over_broken_stable(project)
            _give_up_stable(site, bundle, by, broken_stable, on_progress)
        pointers = site.require_route(project.route)
        if pointers.live.bundle == bundle.digest:
            made_live = site.ledger.release_that_made_live(site.name, project.route, bundle.digest)
            if made_live is None:
                return no_release(project, bundle, "live", "it is live already")
            # its controller may have been killed just before the last table
            return _drive(site, reading_from_now(site, made_live), on_progress, on_decision, steps)
        if project.rollout.judge is not None:
            site.judge(project.rollout.judge)  # one without its key is found before anything begins
        require_own_vllm(bundle, candidate_upstreams or (), site.vllm, site.home)
        candidate = served_as(bundle, site, candidate_upstreams)
        release_id = f"{project.route}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(site.clock()))}"
        release_id += f"-{short(bundle.digest, 6)}{secrets.token_hex(2)}"
        now, place = site.clock(), (site.name, project.route)
        state = new_state(release_id, *place, candidate, site.here(pointers.live), now, cursors(site))
        site.ledger.begin(state, project.rollout, bundle, site.owner, LEASE_TTL_S, now, by)
        refusal = why_unfit(site, bundle) or why_not_servable(bundle, site)
        return _drive(site, state, on_progress, on_decision, steps, refusal)
    finally:
        site.drop_lease()


def approve(site: Site, route: str, *, approved: bool, by: str, reason: str) -> str:
    """Records a named person's decision on the stage that waits for one, and returns the release's id."""
    waiting = site.ledger.unfinished(site.name, route)
    if waiting is None or not waiting.awaiting_approval:
        raise SlipwayError(f"nothing on route {route} waits for an approval", where=f"environment {site.name}")
    site.ledger.add_approval(waiting.release_id, waiting.stage_index, approved, by, reason, site.clock())
    return waiting.release_id


def watch_live(
    site: Site,
    route: str,
    duration_s: float,
    *,
    holdback_bp: int = 0,
    on_progress: Progress = silent,
    on_decision: OnDecision = ignore,
    steps: Steps = STRAIGHT_ON,
) -> ReleaseOutcome | None:
    """Judges what is live for a while, beside its predecessor when some users are held back; may roll it back.

    Goes on with a watch, or with its way back, whose controller was killed. None when nothing was ever released: the
    base has no predecessor. SlipwayError: another release is under way, or this is no watch (configs.watch).
    """
    require_watch(duration_s, holdback_bp)
    with delivering(site.environment, site.ledger, on_progress, site.clock):
        site.take_lease(PATIENCE_S)
        try:
            state = site.ledger.unfinished(site.name, route)
            if state is not None and state.phase not in ("watching", "rolling_back"):
                raise SlipwayError(
                    f"release {state.release_id} is under way on route {route}, and watches itself",
                    cure="if its controller was killed, the same `slipway release` goes on with it",
                )
            if state is None:
                pointers = site.ledger.route(site.name, route)
                bundle = pointers.live.bundle if pointers else ""
                live = site.ledger.release_that_made_live(site.name, route, bundle)
                if live is None:
                    return None
                state = watching(reading_from_now(site, live), duration_s, holdback_bp, site.clock())
                site.ledger.begin_watch(state, site.owner, LEASE_TTL_S, site.clock())
            return _drive(site, state, on_progress, on_decision, steps)
        finally:
            site.drop_lease()


def _drive(
    site: Site,
    state: ReleaseState,
    on_progress: Progress,
    on_decision: OnDecision,
    steps: Steps = STRAIGHT_ON,
    refusal: str = "",
) -> ReleaseOutcome:
    started_at, plan = site.clock(), site.ledger.plan(state.release_id)
    controller = Controller(site, plan, refusal, on_progress, on_decision)
    return release_outcome(controller.drive(state, steps), started_at, site.clock())


def _ask_a_waiting_one_to_end(site: Site, route: str, bundle: Bundle, by: str) -> float:
    """Cancels another bundle's release that waits for an approval; for how many seconds its controller may be busy."""
    waiting = site.ledger.unfinished(site.name, route)
    if waiting is None or not waiting.awaiting_approval or waiting.candidate.bundle == bundle.digest:
        return 0.0
    if why_unfit(site, bundle):
        return 0.0
    reason = f"superseded by bundle {short(bundle.digest)} while it waited for an approval"
    site.ledger.add_command(waiting.release_id, "cancel", by, reason, site.clock())
    return site.ledger.plan(waiting.release_id).drain_s + GRACE_S


def _supersede(
    site: Site, waiting: ReleaseState, bundle: Bundle, by: str, on_progress: Progress, on_decision: OnDecision
) -> None:
    """Ends an unfinished release before another one starts. One that is committed has won already: it is finished."""
    if waiting.phase == "watching":
        waiting = waiting.model_copy(update={"watch_s": 0.0})
    elif (waiting.awaiting_approval or not waiting.committed) and not site.ledger.command(waiting.release_id):
        reason = f"superseded by bundle {short(bundle.digest)}"
        site.ledger.add_command(waiting.release_id, "cancel", by, reason, site.clock())
    _drive(site, waiting, on_progress, on_decision)


def _give_up_stable(site: Site, bundle: Bundle, by: str, reason: str, on_progress: Progress) -> None:
    """Serves the base instead of what is live, for a bundle that may be released."""
    given_up = None if why_unfit(site, bundle) else give_up_stable(site, bundle, by, reason)
    if given_up is not None:
        on_progress(0, 0, f"stable is given up: release {given_up.release_id} is taken back to the base")
        _drive(site, reading_from_now(site, given_up), on_progress, ignore)
