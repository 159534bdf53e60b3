"""A release plan run over recorded traffic: what would `decide` have done, when, and on which evidence?

The decisions are those of `decide`; this module is the world around it, with a clock that follows the log. A tick comes
every `tick_s` from the first request on, and shows what had ended by then and what was under way.

The log's stages are its own affair; those of the replay are simulated. A request belongs to the stage that the replay
was in when it started. In shadow the candidate's mirrored requests count, in every other stage all that it answered;
stable's count as they are. How many requests the candidate should have had is taken from the log, not from the plan's
shares; shadow stages are left out where the log holds no mirrored request, and where only a judge gates them, whose
judgements no log holds. Models load at once, every gateway answers,
and a stage's approval is given as soon as it is asked for. What ended after the plan did is not looked at.
"""

from collections.abc import Iterator
from itertools import compress
from typing import Literal

from configs.rollout import RolloutPlan
from configs.routing import FULL_BP, RoutingTable, Variant
from configs.stage_kinds import Serves
from configs.strict import Strict
from delivery.checks.verdicts import CheckResult, Verdict
from delivery.release.decide import decide, new_state
from delivery.release.routes import alone
from delivery.release.state import (
    Approval,
    AwaitApproval,
    Decision,
    GatewaySeen,
    Observation,
    ReleaseState,
    ReplicaSeen,
    Served,
    SetTable,
    StageRecord,
)
from delivery.traffic.playback import ROUTE, Playback, Traffic

REPLICA = "http://replay"
PARTS = 10  # of a log, each with a share of the candidate's


class Moment(Strict):
    """A decision that changed something. `rows`: how many rows of the log had ended by then."""

    at: float
    after_s: float
    rows: int
    stage: str
    verdict: Verdict
    reason: str
    candidate_requests: int
    stable_requests: int
    results: tuple[CheckResult, ...] = ()


class Replay(Strict):
    """What the plan would have made of the log. `rows` of it were there, `rows_used` had ended at the last decision."""

    outcome: Literal["live", "rolled_back", "unfinished"]
    reason: str
    at: float
    after_s: float
    candidate: str
    stable: str
    rows: int
    rows_used: int
    first_bad_at: float | None = None
    user_requests: int
    failed_user_requests: int
    left_out: tuple[str, ...] = ()  # stages for which the log holds nothing
    left_out_checks: tuple[str, ...] = ()  # a log holds no judgements
    stages: tuple[StageRecord, ...]
    moments: tuple[Moment, ...]


def replay(plan: RolloutPlan, traffic: Traffic, *, candidate: str, stable: str) -> Replay:
    """Runs the plan until it has ended or the log has. `candidate`, `stable`: names of variants in the log."""
    fitted, left_out = _fitted(plan, traffic, candidate)
    checks = tuple(check.name for check in plan.checks if check not in fitted.checks)
    world = _World(fitted, traffic, candidate, stable)
    moments = list(world.run())
    state, note = world.state, world.state.rollback
    ended: dict[str, Literal["live", "rolled_back"]] = {"live": "live", "rolling_back": "rolled_back"}
    return Replay(
        outcome=ended.get(state.phase, "unfinished"),
        reason=note.reason if note is not None else state.reason,
        at=world.now,
        after_s=world.now - world.began,
        candidate=candidate,
        stable=stable,
        rows=len(traffic),
        rows_used=world.playback.ended,
        first_bad_at=note.first_bad_at if note is not None else None,
        user_requests=state.evidence.user_requests,
        failed_user_requests=state.evidence.failed_user_requests,
        left_out=left_out,
        left_out_checks=checks,
        stages=state.stages,
        moments=tuple(moments),
    )


def _fitted(plan: RolloutPlan, traffic: Traffic, candidate: str) -> tuple[RolloutPlan, tuple[str, ...]]:
    """The plan with the log's shares and without a judge, and the stages that it leaves out.

    These are stages of copies for which the log has none, or which no check gates that a replay can judge.
    """
    rows = [
        r for r, said in zip(traffic.records, traffic.is_feedback, strict=True) if not said and r.role != "failover"
    ]
    mirrored = any(record.role == "mirror" and record.variant == candidate for record in rows)
    size = max(1, -(-len(rows) // PARTS))
    counts = [
        (sum(record.variant == candidate for record in rows[first : first + size]), len(rows[first : first + size]))
        for first in range(0, len(rows), size)
    ]
    seen = [(ours, total) for ours, total in counts if 0 < ours < total]
    served_bp = min((FULL_BP * ours // total for ours, total in seen), default=FULL_BP)
    mirror_bp = min((FULL_BP * ours // (total - ours) for ours, total in seen), default=FULL_BP)
    shares: dict[Serves, dict[str, int]] = {
        "nobody": {"mirror_bp": max(1, min(FULL_BP, mirror_bp))},
        "a share": {"share_bp": max(1, served_bp)},
        "everybody": {},
    }
    checks = tuple(check for check in plan.checks if check.kind != "preference")
    gated = {kind for check in checks if check.gates for kind in check.stages}
    is_kept = [not stage.rules.has_pairs or (mirrored and stage.kind in gated) for stage in plan.stages]
    stages = tuple(stage.model_copy(update=shares[stage.rules.serves]) for stage in compress(plan.stages, is_kept))
    left_out = tuple(stage.kind for stage, kept in zip(plan.stages, is_kept, strict=True) if not kept)
    return plan.model_copy(update={"stages": stages, "checks": checks, "judge": None}), left_out


class _World:
    """What surrounds `decide` in a replay: everything works, and the traffic is the log's."""

    def __init__(self, plan: RolloutPlan, traffic: Traffic, candidate: str, stable: str):
        ours, theirs = _served(candidate), _served(stable)
        models = frozenset((candidate, stable))
        table = RoutingTable(revision=1, routes={ROUTE: alone(theirs, "replay", "before")})
        self.playback = Playback(traffic, candidate, table)
        self.began = self.now = self.playback.now
        self.state: ReleaseState = new_state("replay", "replay", ROUTE, ours, theirs, self.now)
        self._plan = plan
        self._replicas: dict[str, ReplicaSeen | None] = {REPLICA: ReplicaSeen(listed=models, verified=models)}

    def run(self) -> Iterator[Moment]:
        """Ticks until the release or the log has ended; every decision that changed something."""
        about: tuple[object, ...] = ()
        ticks = 0
        while True:
            decision = decide(self._plan, self.state, self._observe(), self.now)
            before, self.state = self.state, decision.state
            self._apply(decision)
            said = _what_it_is_about(decision)
            if said != about:
                about = said
                yield self._moment(decision, before)
            if self.state.phase in ("live", "rolling_back") or self.playback.is_over:
                return
            ticks += 1
            self.now = self.began + ticks * self._plan.tick_s

    def _moment(self, decision: Decision, before: ReleaseState) -> Moment:
        state = decision.state
        ended = state.stages[-1] if len(state.stages) > len(before.stages) else None  # what was judged, if it is over
        evidence = state.evidence
        return Moment(
            at=self.now,
            after_s=self.now - self.began,
            rows=self.playback.ended,
            stage=ended.stage if ended else _stage_name(self._plan, state),
            verdict=decision.verdict,
            reason=state.reason,
            candidate_requests=ended.requests if ended else evidence.candidate.requests,
            stable_requests=ended.stable_requests if ended else evidence.stable.requests,
            results=decision.results,
        )

    def _observe(self) -> Observation:
        page = self.playback.page(self.now)
        approval = None
        if self.state.awaiting_approval:
            index = self.state.stage_index
            approval = Approval(stage_index=index, approved=True, by="replay", reason="a replay approves everything")
        return Observation(
            gateways={"log": GatewaySeen(table=self.playback.table, pages=(page,))},
            replicas=self._replicas,
            ledger_table=self.playback.table,
            approval=approval,
        )

    def _apply(self, decision: Decision) -> None:
        for action in decision.actions:
            if isinstance(action, SetTable):
                self.playback.serve(action.table)
        evidence = decision.state.evidence
        self.playback.enter(evidence.epoch, evidence.candidate_role)


def _served(name: str) -> Served:
    variant = Variant(model=name, upstreams=(REPLICA,))
    return Served(bundle=name, name=name, variant=variant)


def _stage_name(plan: RolloutPlan, state: ReleaseState) -> str:
    return plan.stage_name(state.stage_index) if state.phase == "stage" else state.phase


def _what_it_is_about(decision: Decision) -> tuple[object, ...]:
    """Equal for decisions that say the same."""
    state = decision.state
    verdicts = tuple((result.metric, result.verdict) for result in decision.results)
    asked = any(isinstance(action, AwaitApproval) for action in decision.actions)
    return (state.phase, state.stage_index, state.attempt, asked, decision.verdict, state.alerts, verdicts)
