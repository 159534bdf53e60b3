"""A whole small world for `decide`: gateways, replicas, traffic and a ledger as plain values, with faults on demand."""

from dataclasses import dataclass, field

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from configs.routing import RoutingTable, Variant
from delivery.checks.judgements import JudgeSeen
from delivery.release.decide import decide, new_state
from delivery.release.routes import alone, table_with
from delivery.release.state import (
    Action,
    Alert,
    Approval,
    AwaitApproval,
    Command,
    Commit,
    Decision,
    GatewaySeen,
    LoadAdapter,
    Observation,
    Quarantine,
    ReleaseState,
    RenewLease,
    ReplicaSeen,
    Served,
    SetTable,
    UnloadAdapter,
)
from delivery.traffic.records import InFlight, Record, RecordPage, Tripped

VLLM = "http://vllm"
OLD = Served(
    bundle="sha256:old", name="old", variant=Variant(model="tutor-old", upstreams=(VLLM,)), adapter_path="/old"
)
NEW = Served(
    bundle="sha256:new", name="new", variant=Variant(model="tutor-new", upstreams=(VLLM,)), adapter_path="/new"
)
BASE = Served(bundle="sha256:base", name="base", variant=Variant(model="base", upstreams=(VLLM,)))

PLAN = RolloutPlan(
    tick_s=1,
    lease_s=15,
    monitor_timeout_s=5,
    max_hold_s=60,
    drain_s=10,
    approval_timeout_s=300,
    stages=(
        Stage(kind="shadow", mirror_bp=2000, min_requests=20),
        Stage(kind="canary", share_bp=1000, min_requests=20),
        Stage(kind="canary", share_bp=5000, min_requests=20, approval=True),
        Stage(kind="full", share_bp=9000, min_requests=20),
        Stage(kind="watch", min_requests=20, min_duration_s=3),
    ),
    checks=(Check(metric="error_rate", max=0.2),),
)


def on(urls: tuple[str, ...], served: Served) -> Served:
    """The same bundle on these replicas."""
    return served.model_copy(update={"variant": served.variant.model_copy(update={"upstreams": urls})})


@dataclass
class Gateway:
    table: RoutingTable | None
    boot: int = 1
    up: bool = True
    readable: bool = True  # whether its records can be read
    lease_until: float = 0.0
    records: list[Record] = field(default_factory=list)
    in_flight: tuple[InFlight, ...] = ()
    tripped: tuple[Tripped, ...] = ()

    def put(self, table: RoutingTable, now: float) -> None:
        if not self.up:
            raise ConnectionError
        if self.table is not None and table.revision < self.table.revision:
            raise AssertionError(f"revision fell from {self.table.revision} to {table.revision}")
        if self.table is not None and table.revision == self.table.revision and table != self.table:
            raise AssertionError(f"revision {table.revision} has two contents")
        self.table, self.lease_until = table, now + table.lease_s

    def receive(self, table: RoutingTable, now: float) -> None:
        """A put that may be late or a repetition: whatever is not newer is refused, as the real gateway does."""
        if self.up and (self.table is None or table == self.table or table.revision > self.table.revision):
            self.put(table, now)

    def restart(self) -> None:
        """Keeps its table and loses its records; the lease is not longer for it."""
        self.boot += 1
        self.records = []


@dataclass
class Replica:
    models: set[str]
    up: bool = True
    verified: set[str] = field(default_factory=set)

    def restart(self) -> None:
        self.models, self.verified = {"base"}, set()


@dataclass
class World:
    """One release of `new` over `old`. `crash_after`: how many actions a tick applies before the controller dies."""

    plan: RolloutPlan = PLAN
    old: Served = OLD
    new: Served = NEW
    now: float = 1000.0
    gateways: dict[str, Gateway] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    command: Command | None = None
    approval: Approval | None = None
    refusal: str = ""
    judge: JudgeSeen = field(default_factory=JudgeSeen)
    live: Served = field(init=False)
    quarantined: set[str] = field(default_factory=set)
    tables: dict[int, RoutingTable] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    done: list[Action] = field(default_factory=list)
    under_way: list[Action] = field(default_factory=list)  # sent, and not arrived yet
    unrecorded: Decision | None = None  # a way back that was applied while the ledger was away
    load_error: str = ""
    loads_fail: bool = False
    users: int = 50
    comes_and_goes: bool = False  # whether the target names its replicas anew each time: those that are here
    state: ReleaseState = field(init=False)

    def __post_init__(self) -> None:
        self.live = self.old
        first = RoutingTable(revision=7, routes={"tutor": alone(self.old, "salt", "start")})
        self.tables = {7: first}
        self.gateways = self.gateways or {"gw": Gateway(first)}
        for gateway in self.gateways.values():
            gateway.table = first
        self.replicas = self.replicas or {VLLM: Replica({"base", "tutor-old"})}
        self.state = new_state("r1", "local", "tutor", self.new, self.old, self.now)

    # -- the world goes on ------------------------------------------------------------------------------------------

    def serve(self, variant: str, count: int, *, ok: bool = True, gateway: str = "gw", seconds: float = 0.2) -> None:
        """So many requests that this variant answered, under the table that its gateway has."""
        gate = self.gateways[gateway]
        assert gate.table is not None
        route = gate.table.routes["tutor"]
        if variant not in route.variants:
            return
        candidate = route.candidate
        mirror = candidate is not None and candidate.variant == variant and candidate.share_bp == 0
        for _ in range(count):
            seq = len(gate.records) + 1
            gate.records.append(
                Record(
                    seq=seq,
                    request_id=f"{gateway}-{gate.boot}-{seq}",
                    route="tutor",
                    epoch=route.epoch,
                    variant=variant,
                    role="mirror" if mirror else "served",
                    user=f"u{seq % self.users}",
                    started_at=self.now,
                    duration_s=seconds,
                    ttft_s=seconds / 2,
                    status=200 if ok else 500,
                    ok=ok,
                    error="" if ok else "status",
                    completion_tokens=20 if ok else None,
                )
            )

    def both_serve(self, count: int, *, ok: bool = True) -> None:
        """Stable answers well, the candidate well or not."""
        for name in self.gateways:
            self.serve("old", count, gateway=name)
            self.serve("new", count, ok=ok, gateway=name)

    # -- the controller ---------------------------------------------------------------------------------------------

    def observe(self) -> Observation:
        gateways: dict[str, GatewaySeen | None] = {}
        for name, gate in self.gateways.items():
            pages = (self._page(name, gate),) if gate.readable else ()
            gateways[name] = GatewaySeen(table=gate.table, pages=pages) if gate.up else None
        replicas = {
            url: ReplicaSeen(listed=frozenset(one.models), verified=frozenset(one.verified)) if one.up else None
            for url, one in self.replicas.items()
        }
        for one in self.replicas.values():
            one.verified &= one.models if one.up else set()
        error, self.load_error = self.load_error, ""
        return Observation(
            gateways=gateways,
            replicas=replicas,
            members=tuple(sorted(self.replicas)) if self.comes_and_goes else (),
            ledger_table=self.tables[max(self.tables)],
            command=self.command,
            approval=self.approval,
            refusal=self.refusal,
            load_error=error,
            judge=self.judge,
        )

    def _page(self, name: str, gate: Gateway) -> RecordPage:
        cursor = self.state.evidence.cursors.get(name)
        boot = f"boot-{gate.boot}"
        after = cursor.seq if cursor is not None and cursor.boot_id == boot else 0
        return RecordPage(
            boot_id=boot,
            now=self.now,
            revision=gate.table.revision if gate.table else 0,
            lease_remaining_s=None,
            records=tuple(gate.records[max(0, after - 3) :]),  # overlaps, as a repeated page would
            in_flight=gate.in_flight,
            tripped=gate.tripped,
            dropped=0,
            last_seq=len(gate.records),
        )

    def tick(
        self,
        step_s: float = 1.0,
        *,
        failing: frozenset[int] = frozenset(),
        late: frozenset[int] = frozenset(),
        crash_after: int | None = None,
        has_ledger: bool = True,
    ) -> Decision:
        """One tick, recorded before anything is applied. Which of its actions fail, or arrive only some time later.

        Without a ledger nothing is applied but a way back, which goes on record as soon as the ledger is there again.
        """
        self.now += step_s
        if self.unrecorded is not None and has_ledger:
            self._record(self.unrecorded)
            self.unrecorded = None
        if self.unrecorded is not None:
            return self.unrecorded
        observation = self.observe()
        decision = decide(self.plan, self.state, observation, self.now)
        if has_ledger:
            self._record(decision)
        elif decision.state.phase == "rolling_back":
            self.unrecorded = decision
        for index, action in enumerate(decision.actions):
            if crash_after is not None and index >= crash_after:
                break
            if not has_ledger and not (self.unrecorded and isinstance(action, SetTable)):
                continue
            if index in late:
                self.under_way.append(action)
            elif index not in failing:
                self._apply(action, observation)
        return decision

    def arrive(self, which: int) -> None:
        """Something that was sent arrives, maybe long after what was sent later."""
        action = self.under_way.pop(which % len(self.under_way))
        if isinstance(action, SetTable):
            for gate in self.gateways.values():
                gate.receive(action.table, self.now)
        else:
            self._apply(action, self.observe())

    def take_back_by_hand(self, *, and_put: bool) -> None:
        """`slipway rollback`: the request on record, then the routing change without waiting for a controller."""
        self.command = Command(id=1, kind="rollback", by="ann", reason="because")
        if not and_put or self.state.phase == "rolling_back":
            return
        route = alone(self.state.stable, "r1", "r1/rolled-back")
        table = table_with("tutor", route, self.observe(), self.plan.lease_s)
        self.tables.setdefault(table.revision, table)
        for gate in self.gateways.values():
            gate.receive(table, self.now)

    def _record(self, decision: Decision) -> None:
        self.state = decision.state
        for action in decision.actions:
            if isinstance(action, SetTable):
                known = self.tables.setdefault(action.table.revision, action.table)
                assert known == action.table, "a revision is used twice"
                assert action.table.revision == max(self.tables), "an old revision is put"
            elif isinstance(action, Commit):
                self.live = action.live
            elif isinstance(action, Quarantine):
                self.quarantined.add(action.bundle)

    def _apply(self, action: Action, observation: Observation) -> None:
        self.done.append(action)
        match action:
            case SetTable():
                for name, gate in self.gateways.items():
                    seen = observation.gateways[name]
                    if gate.up and (seen is None or seen.table != action.table):
                        gate.put(action.table, self.now)
            case RenewLease():
                gate = self.gateways[action.gateway]
                if gate.up and gate.table is not None and gate.table.revision == action.revision:
                    gate.lease_until = self.now + gate.table.lease_s
            case LoadAdapter() | UnloadAdapter() if action.url in self.replicas:
                self._apply_to_replica(action, self.replicas[action.url])
            case Alert():
                self.alerts.append(action.text)
            case AwaitApproval():
                self.asked.append(action.stage_index)

    def _apply_to_replica(self, action: LoadAdapter | UnloadAdapter, replica: Replica) -> None:
        if isinstance(action, UnloadAdapter):
            assert action.name not in self.models_in_use(), "an adapter is unloaded while a table uses it"
            if replica.up:
                replica.models.discard(action.name)
        elif self.loads_fail or not replica.up:
            self.load_error = f"cannot load {action.name}"
        else:
            replica.models.add(action.name)
            replica.verified.add(action.name)

    def models_in_use(self) -> set[str]:
        """What any gateway's table refers to."""
        tables = [gate.table for gate in self.gateways.values() if gate.table is not None]
        return {v.model for table in tables for v in table.routes["tutor"].variants.values()}

    # -- what a user gets -------------------------------------------------------------------------------------------

    def exposed_bp(self) -> int:
        """The largest share of users that any gateway gives the candidate now, the lease considered."""
        return max((self._exposed(gate) for gate in self.gateways.values()), default=0)

    def _exposed(self, gate: Gateway) -> int:
        route = gate.table.routes["tutor"] if gate.table else None
        if route is None:
            return 0
        if route.stable == self.new.name:
            return 10_000
        leased = self.now < gate.lease_until
        return route.candidate.share_bp if route.candidate is not None and leased else 0

    def until(self, phase: str, *, ok: bool = True, ticks: int = 60, requests: int = 30) -> None:
        """Ticks with traffic until the phase is reached; approvals are given."""
        for _ in range(ticks):
            if self.state.phase == phase:
                return
            if self.state.awaiting_approval:
                self.approval = Approval(stage_index=self.state.stage_index, approved=True, by="ann", reason="fine")
            self.both_serve(requests, ok=ok)
            self.tick()
        assert self.state.phase == phase, f"{self.state.phase}: {self.state.reason}"

    def until_stage(self, index: int) -> None:
        """Ticks with good traffic until this stage begins."""
        for _ in range(60):
            if self.state.phase == "stage" and self.state.stage_index == index:
                return
            if self.state.awaiting_approval:
                self.approval = Approval(stage_index=self.state.stage_index, approved=True, by="ann", reason="fine")
            self.both_serve(30)
            self.tick()
        raise AssertionError(f"stage {index} was not reached: {self.state.phase}, {self.state.reason}")
