"""A release plan run over recorded traffic: what would `decide` have done, when, and on which evidence?

The decisions are `delivery.rollout.decide`'s own; this module is the world around it, with a clock that follows the
log. A tick comes every `tick_s` from the first request on, and shows what had ended by then and what was under way.

The log's stages are its own affair; those of the replay are simulated. A request belongs to the stage that the replay
was in when it started. In shadow the candidate's mirrored requests count, in every other stage all that it answered;
stable's count as they are. How many requests the candidate should have had is taken from the log, not from the plan's
shares; shadow stages are left out where the log holds no mirrored request. Models load at once, every gateway answers,
and a stage's approval is given as soon as it is asked for. What ended after the plan did is not looked at.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from configs.rollout import RolloutPlan
from configs.routing import FULL_BP, RoutingTable, Variant
from configs.strict import Strict
from delivery.checks import CheckResult, Verdict
from delivery.records import Feedback, InFlight, Record, RecordPage, Role
from delivery.release import (
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
from delivery.rollout import decide, new_state
from delivery.tables import alone, current_stage

REPLICA = "http://replay"
ROUTE = "replay"
PARTS = 10  # of a log, each with a share of the candidate's


@dataclass(frozen=True)
class Traffic:
    """Rows of one route in the order in which they ended, a list for each column (delivery.traffic_columns).

    Times are UNIX seconds. `by_start` holds the rows' numbers in the order in which they started.
    """

    is_feedback: Sequence[bool]
    request_id: Sequence[str]
    variant: Sequence[str]
    role: Sequence[Role]
    user: Sequence[str]
    started_at: Sequence[float]
    ended_at: Sequence[float]
    status: Sequence[int]
    ok: Sequence[bool]
    error: Sequence[str]
    ttft_s: Sequence[float | None]
    prompt_tokens: Sequence[int | None]
    completion_tokens: Sequence[int | None]
    user_ok: Sequence[bool]
    rating: Sequence[Any]  # -1, 0, 1 or None
    escalated: Sequence[bool]
    verdicts: Sequence[dict[str, bool]]
    by_start: Sequence[int]

    def __len__(self) -> int:
        return len(self.request_id)


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
    stages: tuple[StageRecord, ...]
    moments: tuple[Moment, ...]


def replay(plan: RolloutPlan, traffic: Traffic, *, candidate: str, stable: str) -> Replay:
    """Runs the plan until it has ended or the log has. `candidate`, `stable`: names of variants in the log."""
    fitted = _fitted(plan, traffic, candidate)
    world = _World(fitted, traffic, candidate=candidate, stable=stable)
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
        rows_used=world.ended,
        first_bad_at=note.first_bad_at if note is not None else None,
        user_requests=state.evidence.user_requests,
        failed_user_requests=state.evidence.failed_user_requests,
        left_out=tuple(stage.kind for stage in plan.stages[: len(plan.stages) - len(fitted.stages)]),
        stages=state.stages,
        moments=tuple(moments),
    )


def _fitted(plan: RolloutPlan, traffic: Traffic, candidate: str) -> RolloutPlan:
    """The plan with the log's shares, and without the shadow stages that the log has nothing for."""
    rows = [i for i in range(len(traffic)) if not traffic.is_feedback[i] and traffic.role[i] != "failover"]
    mirrored = any(traffic.role[i] == "mirror" and traffic.variant[i] == candidate for i in rows)
    size = max(1, -(-len(rows) // PARTS))
    counts = [
        (sum(traffic.variant[i] == candidate for i in rows[first : first + size]), len(rows[first : first + size]))
        for first in range(0, len(rows), size)
    ]
    seen = [(ours, total) for ours, total in counts if 0 < ours < total]
    served_bp = min((FULL_BP * ours // total for ours, total in seen), default=FULL_BP)
    mirror_bp = min((FULL_BP * ours // (total - ours) for ours, total in seen), default=FULL_BP)
    shares = {
        "shadow": {"mirror_bp": max(1, min(FULL_BP, mirror_bp))},
        "canary": {"share_bp": max(1, served_bp)},
        "full": {"share_bp": max(1, served_bp)},
        "watch": {},
    }
    stages = [stage for stage in plan.stages if mirrored or stage.kind != "shadow"]
    return plan.model_copy(update={"stages": tuple(s.model_copy(update=shares[s.kind]) for s in stages)})


@dataclass
class _Epoch:
    """From when the replay was in a stage, and which of the candidate's requests count there."""

    since: float
    name: str
    candidate_role: Role


@dataclass
class _World:
    """The log as gateways and replicas would show it, tick by tick."""

    plan: RolloutPlan
    traffic: Traffic
    candidate: str
    stable: str
    now: float = 0.0
    began: float = 0.0
    ended: int = 0  # rows that had ended by now
    started: int = 0  # rows that had started by now, in the order of `by_start`
    seq: int = 0
    open: dict[int, InFlight] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)  # of the open ones: whose first content is still to come

    def __post_init__(self) -> None:
        self.began = self.now = min(self.traffic.started_at, default=0.0)
        ours, theirs = _served(self.candidate), _served(self.stable)
        self.state: ReleaseState = new_state("replay", "replay", ROUTE, ours, theirs, self.now)
        self.table = RoutingTable(revision=1, routes={ROUTE: alone(theirs, "replay", "before")})
        self.epochs = [_Epoch(self.now, "before", "served")]
        self.starts = [self.now]
        models = frozenset((ours.variant.model, theirs.variant.model))
        self.replicas: dict[str, ReplicaSeen | None] = {REPLICA: ReplicaSeen(listed=models, verified=models)}

    def run(self) -> Iterator[Moment]:
        """Ticks until the release or the log has ended; every decision that changed something."""
        about: tuple[object, ...] = ()
        last = self.traffic.ended_at[-1] if len(self.traffic) else self.now
        ticks = 0
        while True:
            decision = decide(self.plan, self.state, self._observe(), self.now)
            before, self.state = self.state, decision.state
            self._apply(decision)
            said = _what_it_is_about(decision)
            if said != about:
                about = said
                yield self._moment(decision, before)
            if self.state.phase in ("live", "rolling_back") or self.now > last:
                return
            ticks += 1
            self.now = self.began + ticks * self.plan.tick_s

    def _moment(self, decision: Decision, before: ReleaseState) -> Moment:
        state = decision.state
        ended = state.stages[-1] if len(state.stages) > len(before.stages) else None  # what was judged, if it is over
        evidence = state.evidence
        return Moment(
            at=self.now,
            after_s=self.now - self.began,
            rows=self.ended,
            stage=ended.stage if ended else _stage_name(self.plan, state),
            verdict=decision.verdict,
            reason=state.reason,
            candidate_requests=ended.requests if ended else evidence.candidate.requests,
            stable_requests=ended.stable_requests if ended else evidence.stable.requests,
            results=decision.results,
        )

    # -- what a tick sees -------------------------------------------------------------------------------------------

    def _observe(self) -> Observation:
        page = self._page()
        approval = None
        if self.state.awaiting_approval:
            index = self.state.stage_index
            approval = Approval(stage_index=index, approved=True, by="replay", reason="a replay approves everything")
        return Observation(
            gateways={"log": GatewaySeen(table=self.table, pages=(page,))},
            replicas=self.replicas,
            ledger_table=self.table,
            approval=approval,
        )

    def _page(self) -> RecordPage:
        traffic, first = self.traffic, self.ended
        self.ended = bisect_right(traffic.ended_at, self.now, lo=first)
        records: list[Record] = []
        feedback: list[Feedback] = []
        for row in range(first, self.ended):
            if self.open.pop(row, None) is not None:
                self.silent.discard(row)
            if not traffic.is_feedback[row]:
                records.append(self._record(row))
            if traffic.rating[row] is not None or traffic.escalated[row]:
                feedback.append(self._feedback(row))
        self._open()
        return RecordPage(
            boot_id="log",
            now=self.now,
            revision=self.table.revision,
            lease_remaining_s=None,
            records=tuple(records),
            feedback=tuple(feedback),
            in_flight=tuple(self.open.values()),
            dropped=0,
            last_seq=self.seq,
        )

    def _open(self) -> None:
        """Adds what has started since and not ended."""
        traffic = self.traffic
        for row in [row for row in self.silent if self._has_begun(row)]:
            self.silent.remove(row)
            self.open[row] = self.open[row].model_copy(update={"ttft_s": traffic.ttft_s[row]})
        while self.started < len(traffic) and traffic.started_at[traffic.by_start[self.started]] <= self.now:
            row = traffic.by_start[self.started]
            self.started += 1
            if traffic.ended_at[row] > self.now and not traffic.is_feedback[row]:
                epoch, role = self._place(row)
                has_begun = self._has_begun(row)
                if not has_begun and traffic.ttft_s[row] is not None:
                    self.silent.add(row)
                self.open[row] = InFlight(
                    route=ROUTE,
                    epoch=epoch,
                    variant=traffic.variant[row],
                    role=role,
                    user=traffic.user[row],
                    started_at=traffic.started_at[row],
                    ttft_s=traffic.ttft_s[row] if has_begun else None,
                )

    def _has_begun(self, row: int) -> bool:
        """Whether its first content was there by now."""
        ttft_s = self.traffic.ttft_s[row]
        return ttft_s is not None and self.traffic.started_at[row] + ttft_s <= self.now

    def _place(self, row: int) -> tuple[str, Role]:
        """The replay's stage when a row started, and as what it counts there."""
        started_at = self.traffic.started_at[row]
        index = -1 if started_at >= self.starts[-1] else max(0, bisect_right(self.starts, started_at) - 1)
        epoch = self.epochs[index]
        role = self.traffic.role[row]
        counts = self.traffic.variant[row] == self.candidate and epoch.candidate_role == "served"
        return epoch.name, "served" if counts and role == "mirror" else role

    def _record(self, row: int) -> Record:
        traffic = self.traffic
        epoch, role = self._place(row)
        self.seq += 1
        started_at = traffic.started_at[row]
        return Record(
            seq=self.seq,
            request_id=traffic.request_id[row],
            route=ROUTE,
            epoch=epoch,
            variant=traffic.variant[row],
            role=role,
            user=traffic.user[row],
            started_at=started_at,
            duration_s=traffic.ended_at[row] - started_at,
            ttft_s=traffic.ttft_s[row],
            status=traffic.status[row],
            ok=traffic.ok[row],
            error=traffic.error[row],
            prompt_tokens=traffic.prompt_tokens[row],
            completion_tokens=traffic.completion_tokens[row],
            user_ok=traffic.user_ok[row],
            verdicts=traffic.verdicts[row],
        )

    def _feedback(self, row: int) -> Feedback:
        traffic = self.traffic
        epoch, role = self._place(row)
        self.seq += 1
        return Feedback(
            seq=self.seq,
            request_id=traffic.request_id[row],
            route=ROUTE,
            epoch=epoch,
            variant=traffic.variant[row],
            role=role,
            user=traffic.user[row],
            started_at=traffic.started_at[row],
            at=traffic.ended_at[row],
            rating=traffic.rating[row],
            escalated=traffic.escalated[row],
        )

    # -- what a decision does ---------------------------------------------------------------------------------------

    def _apply(self, decision: Decision) -> None:
        for action in decision.actions:
            if isinstance(action, SetTable):
                self.table = action.table
        if decision.state.evidence.epoch != self.epochs[-1].name:
            role: Role = decision.state.evidence.candidate_role
            self.epochs.append(_Epoch(self.now, decision.state.evidence.epoch, role))
            self.starts.append(self.now)


def _served(name: str) -> Served:
    variant = Variant(model=name, upstreams=(REPLICA,))
    return Served(bundle=name, name=name, variant=variant)


def _stage_name(plan: RolloutPlan, state: ReleaseState) -> str:
    return f"{state.stage_index}-{current_stage(plan, state).kind}" if state.phase == "stage" else state.phase


def _what_it_is_about(decision: Decision) -> tuple[object, ...]:
    """Equal for decisions that say the same."""
    state = decision.state
    verdicts = tuple((result.metric, result.verdict) for result in decision.results)
    asked = any(isinstance(action, AwaitApproval) for action in decision.actions)
    return (state.phase, state.stage_index, state.attempt, asked, decision.verdict, state.alerts, verdicts)
