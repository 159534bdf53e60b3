"""The verbs of a release: bring a route up, run a release, approve a stage, watch what is live."""

import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from configs.canonical import short
from configs.errors import SlipwayError
from configs.project import Project
from configs.routing import RoutingTable
from configs.strict import Strict
from configs.watch import require_watch
from delivery.build.bundle import Bundle
from delivery.clients.at_once import at_once
from delivery.clients.vllm import VllmClient, VllmError
from delivery.progress import Progress, silent
from delivery.release.decide import new_state, watching
from delivery.release.hours import seconds_until_open
from delivery.release.messages import of_refusal
from delivery.release.routes import alone, table_with
from delivery.release.state import Observation, ReleaseState, Served, StageRecord
from tasks.notify.courier import delivering
from tasks.notify.told import put_in_outbox
from tasks.release.broken_stable import give_up_stable, over_broken_stable
from tasks.release.controller import STRAIGHT_ON, Controller, OnDecision, Steps, ignore
from tasks.release.cursors import cursors, reading_from_now
from tasks.release.gateways import put, tables
from tasks.release.left_behind import GRACE_S, asked_back
from tasks.release.site import LEASE_TTL_S, Site, served_as, why_not_servable
from tasks.release.way_back import remember_if_possible

LOOK_AT_CLOCK_S = 30.0  # while it waits for release hours
PATIENCE_S = 3.0  # for a supervisor that has the environment's lease for a moment


class ReleaseOutcome(Strict):
    """How a release ended. Times are seconds by the controller's clock.

    `breach_to_stable_s`: from the start of the first bad candidate request that counted in the failed check, to the
    moment at which every gateway was seen to serve stable alone. `decision_to_stable_s`: from the decision to there.
    """

    release_id: str
    route: str
    bundle: str
    outcome: Literal["live", "rolled_back", "refused", "unfinished"]
    reason: str
    stages: tuple[StageRecord, ...] = ()
    decided_at: float | None = None  # when it was decided to roll back
    breach_to_stable_s: float | None = None
    decision_to_stable_s: float | None = None
    user_requests: int = 0
    failed_user_requests: int = 0
    seconds: float = 0.0


def bootstrap(
    site: Site,
    route: str,
    base: Bundle,
    lease_s: float = 15.0,
    on_progress: Progress = silent,
    patience_s: float = 0.0,
) -> RoutingTable:
    """Has the gateways serve a route: the base at first, later whatever the ledger says is live.

    Loads and probes the live adapter before. Does nothing to a table that already gives the live bundle its traffic.
    Of several gateways and replicas those that do not answer are told of, and left to whoever looks after them.
    Raises SlipwayError when no gateway or no vLLM answers, LeaseHeldError when somebody else controls the
    environment and still does after `patience_s`.
    """
    site.take_lease(patience_s, on_progress)
    try:
        now = site.clock()
        site.ledger.set_base(site.name, route, served_as(base, site), base, site.owner, now)
        pointers = site.ledger.route(site.name, route)
        if pointers is None:
            raise SlipwayError(f"route {route} is not in the ledger although it was just written")
        live = _to_be_served(site, route, pointers.live)
        away = make_servable(site, live)
        seen = tables(site.gateways)
        if not any(seen.values()):
            at_least_one({name: client.table for name, client in site.gateways.items()})
        found = [one.table.routes.get(route) if one is not None and one.table else None for one in seen.values()]
        wanted = alone(live, short(live.bundle), f"start/{short(live.bundle)}")
        under_way = site.ledger.unfinished(site.name, route) is not None
        for one in found:
            settled = one is not None and one.candidate is None and one.holdback is None
            if one is not None and one.variants[one.stable] == live.variant and (settled or under_way):
                wanted = one
        newest = site.ledger.newest_table(site.name)
        table = table_with(route, wanted, Observation(gateways=seen, replicas={}, ledger_table=newest), lease_s)
        site.ledger.add_table(site.name, table, f"start of route {route}", site.owner, now)
        away |= {name: error for name, error in put(site.gateways, seen, table).items() if error is not None}
        if len([name for name in away if name in site.gateways]) == len(site.gateways):
            raise next(error for name, error in away.items() if name in site.gateways)
        for name, error in away.items():
            on_progress(0, 1, f"{name} is not ready, and is looked after once it is: {error.what}")
        remember_if_possible(site, route)
        on_progress(1, 1, f"route {route} serves {live.name} ({live.variant.model}), revision {table.revision}")
        return table
    finally:
        site.drop_lease()


def _to_be_served(site: Site, route: str, live: Served) -> Served:
    """What is live, unless somebody has asked for it to be taken back: a start must not bring it back."""
    asked = asked_back(site, route)
    command = site.ledger.command(asked.release_id) if asked is not None and asked.phase == "live" else None
    return live if asked is None or command is None else command.target or asked.stable


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
    wrong = _wrong_place(project, bundle) or _closed(site, project, at_any_hour, on_progress)
    if wrong:
        return _no_release(project, bundle, "refused", wrong)
    site.take_lease(_ask_a_waiting_one_to_end(site, project.route, bundle, by) or PATIENCE_S)
    try:
        waiting = site.ledger.unfinished(site.name, project.route)
        if waiting is not None and waiting.candidate.bundle != bundle.digest:
            unfit = _unfit(site, bundle)
            if unfit:
                return _no_release(project, bundle, "refused", unfit)
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
                return _no_release(project, bundle, "live", "it is live already")
            # its controller may have been killed just before the last table
            return _drive(site, reading_from_now(site, made_live), on_progress, on_decision, steps)
        if project.rollout.judge is not None:
            site.judge(project.rollout.judge)  # one without its key is found before anything begins
        candidate = served_as(bundle, site, candidate_upstreams)
        release_id = f"{project.route}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(site.clock()))}"
        release_id += f"-{short(bundle.digest, 6)}{secrets.token_hex(2)}"
        now, place = site.clock(), (site.name, project.route)
        state = new_state(release_id, *place, candidate, pointers.live, now, cursors(site))
        site.ledger.begin(state, project.rollout, bundle, site.owner, LEASE_TTL_S, now, by)
        refusal = _unfit(site, bundle) or why_not_servable(bundle, site)
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
        with delivering(site.environment, site.ledger, on_progress, site.clock):
            return _drive(site, state, on_progress, on_decision, steps)
    finally:
        site.drop_lease()


def release_outcome(state: ReleaseState, started_at: float, now: float) -> ReleaseOutcome:
    """A release's state as people want it."""
    note, done = state.rollback, state.rollback.confirmed_at if state.rollback else None
    first = note.first_bad_at if note else None
    results = {"live": "live", "rolled_back": "rolled_back", "refused": "refused"}
    return ReleaseOutcome.model_validate(
        {
            "release_id": state.release_id,
            "route": state.route,
            "bundle": state.candidate.bundle,
            "outcome": results.get(state.phase, "unfinished"),
            "reason": note.reason if note else state.reason,
            "stages": state.stages,
            "decided_at": note.decided_at if note else None,
            "breach_to_stable_s": max(0.0, done - first) if done is not None and first is not None else None,
            "decision_to_stable_s": max(0.0, done - note.decided_at) if note and done is not None else None,
            "user_requests": state.evidence.user_requests,
            "failed_user_requests": state.evidence.failed_user_requests,
            "seconds": max(0.0, now - started_at),
        }
    )


def make_servable(site: Site, served: Served, *, probe: bool = True, late_s: float = 10.0) -> dict[str, SlipwayError]:
    """Has every replica list a bundle's model (`probe`: and answer a probe of it); why some do not, by URL.

    All are asked at the same time; once one is ready the others get `late_s` more. Users are served by those that are
    ready: a gateway asks no replica that does not list the model. Raises VllmError when there is none.
    """
    return at_least_one(
        {url: partial(_serve, site.vllm(url), served, probe) for url in served.variant.upstreams}, late_s
    )


def at_least_one(calls: Mapping[str, Callable[[], object]], late_s: float = 10.0) -> dict[str, SlipwayError]:
    """What went wrong where, unless that is everywhere: then it is raised."""
    done = at_once(calls, late_s)
    wrong = {name: error for name, error in done.items() if isinstance(error, SlipwayError)}
    if len(wrong) == len(done):
        raise next(iter(wrong.values()))
    return wrong


def _serve(client: VllmClient, served: Served, probe: bool) -> None:
    name = served.variant.model
    if served.adapter_path is not None:
        client.load_adapter(name, served.adapter_path)
    elif name not in client.models():
        raise VllmError(f"vLLM does not serve {name}", where=client.base_url)
    if probe:
        client.probe(name)


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
    if _unfit(site, bundle):
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


def _closed(site: Site, project: Project, at_any_hour: bool, on_progress: Progress) -> str:
    """Waits until a release may begin; why it may not, where that is too far off. What is under way does not wait."""
    hours = project.rollout.release_hours
    if hours is None or at_any_hour or site.ledger.unfinished(site.name, project.route) is not None:
        return ""
    left_s = first_s = seconds_until_open(hours, site.clock())
    if left_s > hours.wait_at_most_s:
        return (
            f"the release hours open in {left_s / 3600:.1f} h, later than wait_at_most_s {hours.wait_at_most_s:g}; a"
            " person may release at any hour: --at-any-hour"
        )
    while left_s > 0:
        on_progress(0, 0, f"waiting for the release hours, for {left_s / 3600:.1f} h ({first_s / 3600:.1f} h in all)")
        site.sleep(min(left_s, LOOK_AT_CLOCK_S))
        left_s = seconds_until_open(hours, site.clock())
    return ""


def _give_up_stable(site: Site, bundle: Bundle, by: str, reason: str, on_progress: Progress) -> None:
    """Serves the base instead of what is live, for a bundle that may be released."""
    given_up = None if _unfit(site, bundle) else give_up_stable(site, bundle, by, reason)
    if given_up is not None:
        on_progress(0, 0, f"stable is given up: release {given_up.release_id} is taken back to the base")
        _drive(site, reading_from_now(site, given_up), on_progress, ignore)


def _unfit(site: Site, bundle: Bundle) -> str:
    """Why the ledger says that a bundle must not be released; empty when it may."""
    quarantined = site.ledger.quarantined(bundle.digest)
    if quarantined:
        cure = f"if that was not its fault: slipway lift-quarantine {short(bundle.digest)} --reason TEXT"
        return f"bundle {short(bundle.digest)} is quarantined: {quarantined}; {cure}"
    return _gate_refusal(site, bundle)


def _gate_refusal(site: Site, bundle: Bundle) -> str:
    """What the eval gate has against a bundle. The base without an adapter needs no gate: it is the fallback."""
    if bundle.adapter is None:
        return ""
    gate = site.ledger.gate(bundle.digest)
    if gate is None:
        return f"bundle {short(bundle.digest)} was never judged by the eval gate of this ledger: build it first"
    wrong = "; ".join(finding.sentence for finding in gate.findings if finding.verdict != "pass")
    return "" if gate.passed else f"the eval gate refused bundle {short(bundle.digest)}: {wrong}"


def _wrong_place(project: Project, bundle: Bundle) -> str:
    if bundle.route != project.route:
        return f"bundle {short(bundle.digest)} is for route {bundle.route}, not {project.route}"
    if bundle.base_model != project.model.name:
        return f"bundle {short(bundle.digest)} needs base model {bundle.base_model}, served is {project.model.name}"
    return ""


def _no_release(project: Project, bundle: Bundle, outcome: Literal["live", "refused"], reason: str) -> ReleaseOutcome:
    return ReleaseOutcome(release_id="", route=project.route, bundle=bundle.digest, outcome=outcome, reason=reason)
