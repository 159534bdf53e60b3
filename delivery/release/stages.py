"""One stage of a release: judge the evidence, then hold, wait for approval, advance, or turn around."""

from dataclasses import dataclass
from typing import Any

from configs.rollout import RolloutPlan
from delivery.checks.verdicts import Judgement, judge
from delivery.release import rollback
from delivery.release.alerts import is_late, new_alerts
from delivery.release.condemn import missing_evidence
from delivery.release.reconcile import is_listed, is_verified, loads, lost_on, routing_actions
from delivery.release.routes import current_stage, epoch_of, holdback_of
from delivery.release.state import (
    Action,
    AwaitApproval,
    Commit,
    Decision,
    Observation,
    ReleaseState,
    StageRecord,
)
from delivery.traffic.records import Tripped

GONE_AFTER_S = 5.0  # a replica that does not answer for so long has no candidate traffic any more


@dataclass(frozen=True)
class Tick:
    """What one call of `decide` hands down."""

    plan: RolloutPlan
    observation: Observation
    now: float
    step_s: float
    learned: bool  # new candidate requests arrived
    quiet: bool = False  # nobody asked, and the plan waits for traffic


def enter(plan: RolloutPlan, state: ReleaseState, observation: Observation, index: int) -> Decision:
    """The next stage, with its table and no evidence yet; a kind that commits, or the end, is the commit."""
    actions: list[Action] = []
    fresh: dict[str, Any] = {"phase": "stage", "stage_index": index, "attempt": 0, "awaiting_approval": False}
    if index == len(plan.stages):
        fresh |= {"phase": "live", "stage_index": index - 1}
    elif plan.stages[index].rules.commits:
        fresh["holdback_bp"] = holdback_of(plan)
    commits = index == len(plan.stages) or plan.stages[index].rules.commits
    if commits and not state.committed:
        fresh["committed"] = True
        actions.append(Commit(live=state.candidate, previous=state.stable))
    entered = _restarted(plan, state.model_copy(update=fresh))
    entered = entered.model_copy(
        update={
            "clocks": entered.clocks.model_copy(update={"stage_s": 0.0, "approval_s": 0.0, "quiet_s": 0.0}),
            "reason": "all stages passed" if entered.phase == "live" else f"entered {_name(plan, entered)}",
            "verdict": "pass" if entered.phase == "live" else "inconclusive",
        }
    )
    return _decision(entered, [*actions, *routing_actions(plan, entered, observation)])


def run_stage(tick: Tick, state: ReleaseState) -> Decision:
    """A stage's tick. The analysis keeps its authority in every wait."""
    plan, observation = tick.plan, tick.observation
    state, reloads = _look_after_models(tick, state)
    stage = current_stage(plan, state)
    judgement = judge(plan, stage, state.evidence, _tripped(state, observation))
    state = state.model_copy(update={"verdict": judgement.verdict, "reason": judgement.reason})
    if judgement.blame == "rollback":
        return _turn(tick, state, judgement, judgement.reason)
    state, alerts = new_alerts(plan, state, judgement)
    passed = judgement.verdict == "pass" and not state.suspended and state.clocks.silent_s == 0
    state = _held(tick, state, judgement, passed=passed)
    if state.phase == "watching":
        if state.clocks.stage_s >= state.watch_s:
            state = _noted(plan, state, judgement).model_copy(update={"phase": "live"})
    else:
        overdue = _overdue(plan, state, passed=passed)
        if overdue:
            return _turn(tick, state, judgement, f"{overdue}: {judgement.reason}")
        if passed and state.clocks.epoch_s >= stage.min_duration_s:
            return _pass(tick, state, judgement, alerts)
    actions = [*routing_actions(plan, state, observation), *reloads, *alerts]
    return _decision(state, actions, judgement)


def _pass(tick: Tick, state: ReleaseState, judgement: Judgement, alerts: list[Action]) -> Decision:
    """Advances, or waits for the person who has to agree."""
    plan, observation, approval = tick.plan, tick.observation, tick.observation.approval
    stage = plan.stages[state.stage_index]
    agreed = approval is not None and approval.approved and approval.stage_index == state.stage_index
    if not stage.approval or agreed:
        decision = enter(plan, _noted(plan, state, judgement), observation, state.stage_index + 1)
        return decision.model_copy(
            update={
                "actions": (*decision.actions, *alerts),
                "results": judgement.results,
                "facts": judgement.facts,
                "verdict": "pass",
            }
        )
    asked: list[Action] = []
    if not state.awaiting_approval:
        text = f"{_name(plan, state)} passed; a named person must approve: {judgement.reason}"
        asked = [AwaitApproval(stage_index=state.stage_index, text=text)]
        state = state.model_copy(update={"awaiting_approval": True})
    return _decision(state, [*routing_actions(plan, state, observation), *asked, *alerts], judgement)


def _turn(tick: Tick, state: ReleaseState, judgement: Judgement, reason: str) -> Decision:
    noted = _noted(tick.plan, state, judgement)
    missing = missing_evidence(tick.plan, state, tick.observation, judgement)
    decision = rollback.begin(
        tick.plan,
        noted,
        tick.observation,
        tick.now,
        reason=reason if not missing else f"{reason}; not quarantined, for there was missing: {missing}",
        quarantine=not missing,
        first_bad_at=judgement.first_bad_at,
    )
    return decision.model_copy(
        update={"results": judgement.results, "facts": judgement.facts, "verdict": judgement.verdict}
    )


def _tripped(state: ReleaseState, observation: Observation) -> Tripped | None:
    """That a gateway keeps users from the candidate, which the checks have to judge."""
    for seen in observation.gateways.values():
        for trip in seen.pages[-1].tripped if seen is not None and seen.pages else ():
            own = (trip.route, trip.epoch, trip.variant) == (state.route, state.evidence.epoch, state.candidate.name)
            if own:
                return trip
    return None


# -- time -----------------------------------------------------------------------------------------------------------


def _held(tick: Tick, state: ReleaseState, judgement: Judgement, *, passed: bool) -> ReleaseState:
    """Held means: nothing was learned. A pass that waits for its minimum duration or for a person is not held."""
    stuck = judgement.verdict in ("error", "fail") or state.suspended or state.clocks.silent_s > 0
    stuck = stuck or judgement.facts.tripped is not None
    moving = passed or (tick.learned and not stuck)
    held_s = 0.0 if moving else state.clocks.held_s + (0.0 if tick.quiet else tick.step_s)
    return state.model_copy(update={"clocks": state.clocks.model_copy(update={"held_s": held_s})})


def _overdue(plan: RolloutPlan, state: ReleaseState, *, passed: bool) -> str:
    clocks, stage = state.clocks, plan.stages[state.stage_index]
    if is_late(plan, state) and plan.on_approval_timeout == "rollback":
        return f"no approval within {plan.approval_timeout_s:g} s"
    if clocks.held_s > plan.max_hold_s:
        return f"held for more than {plan.max_hold_s:g} s without new evidence"
    if clocks.stage_s > stage.max_duration_s and not passed and not state.awaiting_approval:
        return f"{_name(plan, state)} did not pass within {stage.max_duration_s:g} s"
    return ""


# -- the candidate's replicas ---------------------------------------------------------------------------------------


def _look_after_models(tick: Tick, state: ReleaseState) -> tuple[ReleaseState, list[Action]]:
    """A replica that lost its adapters is loaded again; until then all traffic is stable's, where stable has a model.

    Reloads come behind the routing change in the order of actions. Afterwards the evidence starts again.
    """
    plan, observation = tick.plan, tick.observation
    gone = bool(lost_on(observation, state.candidate)) or state.clocks.gone_s > GONE_AFTER_S
    if state.suspended and is_verified(observation, state.candidate) and state.clocks.silent_s == 0:
        again = state.model_copy(update={"suspended": False, "attempt": state.attempt + 1})
        state = _restarted(plan, again)
    elif gone and not state.suspended and (not state.committed or is_listed(observation, state.stable)):
        state = state.model_copy(update={"suspended": True})
    probed = state.suspended
    return state, [
        *loads(observation, state.stable, probed=False),
        *loads(observation, state.candidate, probed=probed),
    ]


def _restarted(plan: RolloutPlan, state: ReleaseState) -> ReleaseState:
    role = current_stage(plan, state).rules.role
    return state.model_copy(
        update={
            "evidence": state.evidence.restarted(epoch_of(plan, state), role),
            "clocks": state.clocks.model_copy(update={"epoch_s": 0.0, "held_s": 0.0}),
            "verdict": "inconclusive",
        }
    )


# -- words ----------------------------------------------------------------------------------------------------------


def _noted(plan: RolloutPlan, state: ReleaseState, judgement: Judgement) -> ReleaseState:
    record = StageRecord(
        stage=_name(plan, state),
        share_bp=current_stage(plan, state).size_bp,
        verdict=judgement.verdict,
        requests=state.evidence.candidate.requests,
        stable_requests=state.evidence.stable.requests,
        seconds=round(state.clocks.stage_s, 3),
        evidence=tuple(result.sentence for result in judgement.results),
    )
    return state.model_copy(update={"stages": (*state.stages, record)})


def _name(plan: RolloutPlan, state: ReleaseState) -> str:
    return "watching" if state.phase == "watching" else plan.stage_name(state.stage_index)


def _decision(state: ReleaseState, actions: list[Action], judgement: Judgement | None = None) -> Decision:
    return Decision(
        state=state,
        actions=tuple(actions),
        verdict=state.verdict,
        reason=state.reason,
        results=judgement.results if judgement else (),
        facts=judgement.facts if judgement else None,
    )
