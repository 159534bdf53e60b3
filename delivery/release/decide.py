"""What to do next with a release: `decide`, a pure function of plan, state, observation and time.

Phases: preparing -> stage (shadow, canary..., full, watch) -> live; from everywhere rolling_back -> rolled_back;
refused at the door. A person's command comes first, the checks next, everything that advances last. State and actions
are recorded before the actions are applied, and what was not seen to work is asked for again in the next tick.
"""

from collections.abc import Mapping
from typing import Any

from configs.rollout import RolloutPlan
from delivery.checks.evidence import Cursor, Evidence
from delivery.checks.fold import fold
from delivery.release import rollback
from delivery.release.members import followed, welcomed
from delivery.release.reconcile import is_listed, is_verified, loads, lost_on, routing_actions
from delivery.release.routes import current_stage
from delivery.release.stages import Tick, enter, run_stage
from delivery.release.state import Action, Clocks, Decision, Observation, ReleaseState, Served

LONGEST_STEP_S = 10.0  # a tick never counts for more (or for three planned ones): clocks jump, controllers sleep
LOAD_TRIES = 5
OVER_BROKEN_STABLE = (
    "give it up and go on from the base, without comparing: slipway release BUNDLE --over-broken-stable --reason TEXT"
)


def new_state(
    release_id: str,
    environment: str,
    route: str,
    candidate: Served,
    stable: Served,
    now: float,
    cursors: Mapping[str, Cursor] | None = None,
) -> ReleaseState:
    """A release at its beginning. `cursors` is where each gateway's records are now: what came before is not read."""
    evidence = Evidence(
        epoch=f"{release_id}/preparing",
        candidate_variant=candidate.name,
        stable_variant=stable.name,
        candidate_role="served",
        cursors=dict(cursors or {}),
    )
    return ReleaseState(
        release_id=release_id,
        environment=environment,
        route=route,
        candidate=candidate,
        stable=stable,
        clocks=Clocks(last_tick_at=now),
        evidence=evidence,
    )


def watching(state: ReleaseState, watch_s: float, holdback_bp: int, now: float) -> ReleaseState:
    """A live release under observation again for some seconds, with `holdback_bp` of users on its predecessor."""
    attempt = state.attempt + 1
    fresh: dict[str, Any] = {"phase": "watching", "attempt": attempt, "watch_s": watch_s, "holdback_bp": holdback_bp}
    fresh |= {"clocks": Clocks(last_tick_at=now), "alerts": (), "verdict": "inconclusive", "reason": ""}
    fresh["evidence"] = state.evidence.restarted(f"{state.release_id}/watching.{attempt}", "served")
    return state.model_copy(update=fresh)


def decide(plan: RolloutPlan, state: ReleaseState, observation: Observation, now: float) -> Decision:
    """One tick. `now` is UNIX seconds; it may jump."""
    return welcomed(_decide(plan, followed(state, observation), observation, now), observation)


def _decide(plan: RolloutPlan, state: ReleaseState, observation: Observation, now: float) -> Decision:
    step_s = min(max(now - state.clocks.last_tick_at, 0.0), max(LONGEST_STEP_S, 3 * plan.tick_s))
    pages = {name: seen.pages for name, seen in observation.gateways.items() if seen is not None}
    stage = current_stage(plan, state)
    evidence = fold(state.evidence, plan, stage, state.release_id, pages, observation.judge)
    learned = evidence.candidate.requests > state.evidence.candidate.requests
    asked = evidence.user_requests > state.evidence.user_requests
    quiet = not asked and _can_wait(plan, state, observation, step_s)
    clocks = _lived(state, observation, now=now, step_s=step_s, quiet=quiet)
    state = state.model_copy(update={"evidence": evidence, "clocks": clocks})
    if state.phase in ("rolled_back", "refused"):
        return _decision(state)
    turned = _asked_to_go_back(plan, state, observation, now)
    if turned is not None:
        return turned
    match state.phase:
        case "rolling_back":
            return rollback.go_on(plan, state, observation, now)
        case "live":
            return _decision(state, *routing_actions(plan, state, observation))
        case "preparing":
            return _prepare(plan, state, observation, now, step_s)
        case _:
            return run_stage(Tick(plan, observation, now, step_s, learned, quiet), state)


def _can_wait(plan: RolloutPlan, state: ReleaseState, observation: Observation, step_s: float) -> bool:
    """Whether a stage in which nobody asks may go on without its time running: all works, and the wait is bounded."""
    works = not (_is_silent(observation) or _is_gone(state, observation) or state.suspended or state.awaiting_approval)
    return state.phase == "stage" and works and state.clocks.quiet_s + step_s <= plan.wait_for_traffic_s


def _is_silent(observation: Observation) -> bool:
    return not observation.gateways or any(seen is None or not seen.pages for seen in observation.gateways.values())


def _is_gone(state: ReleaseState, observation: Observation) -> bool:
    return any(observation.replicas.get(url) is None for url in state.candidate.variant.upstreams)


def _lived(state: ReleaseState, observation: Observation, *, now: float, step_s: float, quiet: bool) -> Clocks:
    clocks, step = state.clocks, step_s
    running = state.phase in ("stage", "watching") and not state.suspended
    silent, gone = _is_silent(observation), _is_gone(state, observation)
    confirmed = state.rollback is not None and state.rollback.confirmed_at is not None
    return Clocks(
        last_tick_at=now,
        stage_s=clocks.stage_s + (0.0 if quiet else step) if state.phase in ("stage", "watching") else 0.0,
        epoch_s=clocks.epoch_s + step if running else 0.0,
        held_s=clocks.held_s,
        silent_s=clocks.silent_s + step if silent else 0.0,
        quiet_s=clocks.quiet_s + step if quiet else clocks.quiet_s,
        gone_s=clocks.gone_s + step if gone else 0.0,
        approval_s=clocks.approval_s + step if state.awaiting_approval else 0.0,
        drain_s=clocks.drain_s + step if confirmed else 0.0,
        unjudged_s=clocks.unjudged_s + step if running and observation.judge.error else 0.0,
    )


def _asked_to_go_back(plan: RolloutPlan, state: ReleaseState, observation: Observation, now: float) -> Decision | None:
    command, approval = observation.command, observation.approval
    if state.phase == "rolling_back":
        return None
    if command is not None and not (command.kind == "cancel" and state.phase == "live"):
        reason = f"{command.kind} asked for by {command.by}: {command.reason}"
        asked = command.kind == "rollback" and command.quarantine
        return rollback.begin(
            plan, state, observation, now, reason=reason, by=command.by, quarantine=asked, target=command.target
        )
    rejected = approval is not None and not approval.approved and approval.stage_index == state.stage_index
    if approval is not None and rejected and state.phase == "stage":
        reason = f"stage {state.stage_index} rejected by {approval.by}: {approval.reason}"
        return rollback.begin(plan, state, observation, now, reason=reason, by=approval.by)
    return None


def _prepare(plan: RolloutPlan, state: ReleaseState, observation: Observation, now: float, step_s: float) -> Decision:
    """No share before every replica lists the adapter and answers a probe. Nothing is routed yet, so nothing breaks."""
    if observation.refusal:
        return _decision(state.model_copy(update={"phase": "refused", "reason": observation.refusal}))
    failures = state.load_failures + bool(observation.load_error)
    held_s = state.clocks.held_s + step_s
    clocks = state.clocks.model_copy(update={"held_s": held_s})
    state = state.model_copy(update={"load_failures": failures, "clocks": clocks})
    missing = _not_ready(state, observation)
    if not missing:
        return enter(plan, state, observation, 0)
    why = f"{missing}: {observation.load_error}" if observation.load_error else missing
    if failures >= LOAD_TRIES or held_s > plan.max_hold_s:
        reason = f"the candidate could not be prepared: {why}"
        if lost_on(observation, state.stable):
            reason = f"stable is broken, not the candidate: {why}; {OVER_BROKEN_STABLE}"
        return rollback.begin(plan, state, observation, now, reason=reason, quarantine=False)
    wanted = [*loads(observation, state.stable, probed=False), *loads(observation, state.candidate, probed=True)]
    return _decision(state.model_copy(update={"reason": why}), *wanted)


def _not_ready(state: ReleaseState, observation: Observation) -> str:
    if not observation.gateways or any(seen is None for seen in observation.gateways.values()):
        return "a gateway does not answer"
    if state.clocks.silent_s > 0:
        return "a gateway's records cannot be read"
    silent = [url for url in state.candidate.variant.upstreams if observation.replicas.get(url) is None]
    if silent:
        return f"no answer from vLLM at {', '.join(silent)}"
    if not is_listed(observation, state.stable):
        return f"stable's model {state.stable.variant.model} is not served on every replica"
    return "" if is_verified(observation, state.candidate) else f"loading {state.candidate.variant.model}"


def _decision(state: ReleaseState, *actions: Action) -> Decision:
    return Decision(state=state, actions=actions, verdict=state.verdict, reason=state.reason)
