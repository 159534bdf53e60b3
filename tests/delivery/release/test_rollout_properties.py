"""Whatever happens, in whatever order, with whichever action failing: what must hold for every release."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rollout_world import BASE, NEW, OLD, PLAN, VLLM, Gateway, Replica, World, on

from delivery.release.decide import watching
from delivery.release.state import Approval, Command, Decision, ReleaseState, RenewLease, SetTable, UnloadAdapter
from delivery.traffic.records import Tripped

SOME = st.frozensets(st.integers(0, 5))
NONE: frozenset[int] = frozenset()
URLS = (VLLM, "http://vllm-2")


class AnyOrder(RuleBasedStateMachine):
    """Faults, traffic, people and crashes around one release."""

    @initialize(
        patient=st.booleans(),
        gateways=st.integers(1, 2),
        replicas=st.integers(1, 2),
        refusal=st.sampled_from(["", "", "", "bad"]),
    )
    def start(self, patient: bool, gateways: int, replicas: int, refusal: str) -> None:
        urls = URLS[:replicas]
        self.world = World(
            plan=PLAN.model_copy(update={"wait_for_traffic_s": 300.0 if patient else 0.0}),
            old=on(urls, OLD),
            new=on(urls, NEW),
            gateways={name: Gateway(None) for name in ("gw", "second")[:gateways]},
            replicas={url: Replica({"base", "tutor-old"}) for url in urls},
            refusal=refusal,
        )
        self.taken_back: set[str] = set()  # gateways that have served stable alone since the rollback began
        self.ended = ""  # rolled_back or refused, once it is
        self.blind_s = dict.fromkeys(self.world.gateways, 0.0)  # since a controller could read its records
        self.top = 7
        self.has_failed = False  # whether the candidate ever answered badly
        self.is_blamed = False  # whether a person held something against it

    # -- the controller ---------------------------------------------------------------------------------------------

    @rule(
        step_s=st.sampled_from([0.0, 1.0, 1.0, 1.0, 5.0]),
        failing=SOME,
        late=SOME,
        crash=st.none() | st.integers(0, 4),
        has_ledger=st.sampled_from([True, True, True, False]),
    )
    def tick(
        self, step_s: float, failing: frozenset[int], late: frozenset[int], crash: int | None, has_ledger: bool
    ) -> None:
        """A controller's tick, whose actions may fail or come late, and which it may not survive."""
        world, before = self.world, self.world.state
        decision = world.tick(step_s, failing=failing, late=late, crash_after=crash, has_ledger=has_ledger)
        for name, gate in world.gateways.items():
            self.blind_s[name] = 0.0 if gate.up and gate.readable else self.blind_s[name] + step_s
        if crash is not None:  # the next one starts from what is on record
            persisted = ReleaseState.model_validate_json(world.state.model_dump_json())
            assert persisted == world.state
            world.state, world.unrecorded = persisted, None
            for replica in world.replicas.values():
                replica.verified = set()
        self.what_was_decided_is_in_order(before, decision)

    @rule(times=st.integers(1, 6))
    def quiet_ticks(self, times: int) -> None:
        for _ in range(times):
            self.tick(1.0, NONE, NONE, None, True)

    @rule(asleep_s=st.sampled_from([5.0, 16.0, 100.0]))
    def nobody_controls(self, asleep_s: float) -> None:
        """The controller is dead, stopped, or cut off."""
        self.world.now += asleep_s
        for name in self.blind_s:
            self.blind_s[name] += asleep_s

    @precondition(lambda self: self.world.under_way)
    @rule(which=st.integers(0, 9))
    def something_late_arrives(self, which: int) -> None:
        self.deliver(which)

    @precondition(lambda self: self.world.done)
    @rule(which=st.integers(0, 99))
    def something_is_repeated(self, which: int) -> None:
        action = self.world.done[which % len(self.world.done)]
        if isinstance(action, SetTable):
            self.world.under_way.append(action)
            self.deliver(-1)

    def deliver(self, which: int) -> None:
        self.world.arrive(which)
        self.blind_s = dict.fromkeys(self.blind_s, 0.0)  # however late a table arrives, it comes with one lease

    # -- the surroundings -------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 60), good=st.booleans())
    def traffic(self, count: int, good: bool) -> None:
        self.world.both_serve(count, ok=good)
        self.has_failed = self.has_failed or not good

    @rule(count=st.integers(1, 40))
    def users_who_all_fell_to_stable_ask(self, count: int) -> None:
        for name in self.world.gateways:
            self.world.serve("old", count, gateway=name)

    @rule()
    def good_traffic(self) -> None:
        self.world.both_serve(40)

    @rule(which=st.sampled_from(["gw", "second"]), failures=st.integers(0, 9), elsewhere=st.integers(0, 3))
    def a_gateway_takes_the_users_away_or_gives_them_back(self, which: str, failures: int, elsewhere: int) -> None:
        if which not in self.world.gateways:
            return
        trip = Tripped(
            route="tutor",
            epoch=self.world.state.evidence.epoch,
            variant="new",
            since=self.world.now,
            failures=failures,
            users=2,
            error="status",
            answered_elsewhere=elsewhere,
        )
        self.world.gateways[which].tripped = (trip,) if failures >= 5 else ()

    @rule(jump_s=st.sampled_from([-1e5, -30.0, 100.0, 1e5]))
    def clock_jumps(self, jump_s: float) -> None:
        self.world.now += jump_s
        for gate in self.world.gateways.values():  # a gateway's lease does not hang on the time of day
            gate.lease_until += jump_s

    @rule(which=st.sampled_from(["gw", "second"]), up=st.booleans(), readable=st.booleans())
    def gateway_comes_and_goes(self, which: str, up: bool, readable: bool) -> None:
        if which in self.world.gateways:
            self.world.gateways[which].up = up
            self.world.gateways[which].readable = readable

    @rule(which=st.sampled_from(["gw", "second"]))
    def gateway_restarts(self, which: str) -> None:
        if which in self.world.gateways:
            self.world.gateways[which].restart()

    @rule(which=st.sampled_from(URLS), up=st.booleans(), restarted=st.booleans(), loads_fail=st.booleans())
    def vllm_comes_and_goes(self, which: str, up: bool, restarted: bool, loads_fail: bool) -> None:
        if which in self.world.replicas:
            self.world.replicas[which].up, self.world.loads_fail = up, loads_fail
            if restarted:
                self.world.replicas[which].restart()

    # -- people -----------------------------------------------------------------------------------------------------

    @rule(approved=st.booleans(), stage=st.integers(0, 4))
    def somebody_decides(self, approved: bool, stage: int) -> None:
        self.world.approval = Approval(stage_index=stage, approved=approved, by="ann", reason="because")
        self.is_blamed = self.is_blamed or not approved

    @precondition(lambda self: self.world.command is None)
    @rule(kind=st.sampled_from(["rollback", "cancel"]), to_base=st.booleans(), quarantine=st.booleans())
    def somebody_asks(self, kind: str, to_base: bool, quarantine: bool) -> None:
        target = BASE if to_base and kind == "rollback" else None
        asked = {"id": 1, "kind": kind, "by": "ann", "reason": "because", "target": target, "quarantine": quarantine}
        self.world.command = Command.model_validate(asked)
        self.is_blamed = self.is_blamed or (kind == "rollback" and quarantine)

    @precondition(lambda self: self.world.command is not None and self.world.command.kind == "rollback")
    @rule()
    def somebody_asks_again(self) -> None:
        """A second person, a retry, another door: the newest command of the release, with a number of its own."""
        command = self.world.command
        assert command is not None
        self.world.command = command.model_copy(update={"id": command.id + 1, "by": "bob"})

    @precondition(lambda self: self.world.command is None and self.world.state.phase not in ("refused", "rolled_back"))
    @rule(and_put=st.booleans())
    def somebody_takes_it_back_at_once(self, and_put: bool) -> None:
        self.world.take_back_by_hand(and_put=and_put)
        self.is_blamed = True

    @precondition(lambda self: self.world.state.phase == "live" and self.world.command is None)
    @rule(holdback_bp=st.sampled_from([0, 500]))
    def watched_again(self, holdback_bp: int) -> None:
        self.world.state = watching(self.world.state, 20, holdback_bp, self.world.now)

    # -- what must hold ---------------------------------------------------------------------------------------------

    def what_was_decided_is_in_order(self, before: ReleaseState, decision: Decision) -> None:
        state, command = decision.state, self.world.command
        if before.phase in ("rolled_back", "refused"):
            assert state.phase == before.phase
        elif command is not None and not (command.kind == "cancel" and before.phase == "live"):
            assert state.phase in ("rolling_back", "rolled_back"), "a rollback comes before anything else"
        for action in decision.actions:
            if isinstance(action, SetTable):
                variants = action.table.routes["tutor"].variants
                assert action.table.revision >= self.top
                self.top = action.table.revision
                assert NEW.name not in variants or state.phase not in ("rolling_back", "rolled_back")
                assert NEW.name not in variants or not state.suspended
            elif isinstance(action, RenewLease):
                assert state.phase in ("stage", "watching"), "a share is renewed and nobody judges it"
                assert state.clocks.silent_s <= self.world.plan.monitor_timeout_s or (
                    self.world.gateways[action.gateway].readable
                )
            elif isinstance(action, UnloadAdapter):
                assert state.rollback is not None
                assert state.rollback.confirmed_at is not None, "unloading comes last"

    @invariant()
    def never_both_promoted_and_rolled_back(self) -> None:
        phase = self.world.state.phase
        if phase in ("rolled_back", "refused"):
            assert self.ended in ("", phase)
            self.ended = phase
            assert self.world.live != self.world.new
        if phase == "live":
            assert not self.ended
            assert self.world.live == self.world.new
        if phase in ("preparing", "refused"):
            assert self.world.live == self.world.old

    @invariant()
    def nothing_is_ruled_out_without_evidence_against_it(self) -> None:
        assert self.world.quarantined <= {NEW.bundle}
        if not self.has_failed and not self.is_blamed:
            assert self.world.quarantined == set()
            assert self.world.state.rollback is None or not self.world.state.rollback.quarantine

    @invariant()
    def what_is_taken_back_without_blame_says_what_was_missing(self) -> None:
        note = self.world.state.rollback
        if note is not None and note.by == "slipway" and not note.quarantine:
            assert "missing" in note.reason or "could not be prepared" in note.reason or "broken" in note.reason

    @invariant()
    def a_repeated_rollback_takes_back_no_more_than_the_release(self) -> None:
        if self.world.state.phase == "rolled_back":
            target = self.world.command.target if self.world.command is not None else None
            assert self.world.live in (self.world.old, target)

    @invariant()
    def stable_is_in_every_table_as_it_is_served(self) -> None:
        for gate in self.world.gateways.values():
            assert gate.table is not None
            route = gate.table.routes["tutor"]
            assert route.variants[route.stable] in (self.world.old.variant, self.world.new.variant, BASE.variant)
            if route.candidate is not None:  # no stage before the commit touches stable
                assert route.variants["old"] == self.world.old.variant
                assert route.stable == "old"

    @invariant()
    def only_what_was_committed_is_anybodys_stable(self) -> None:
        for gate in self.world.gateways.values():
            assert gate.table is not None
            if gate.table.routes["tutor"].stable == NEW.name:
                assert self.world.live == self.world.new or self.world.state.phase in ("rolling_back", "rolled_back")

    @invariant()
    def a_share_that_nobody_could_watch_for_long_has_ended(self) -> None:
        plan = self.world.plan
        for name, gate in self.world.gateways.items():
            assert gate.table is not None
            if gate.table.routes["tutor"].candidate is not None and (
                self.blind_s[name] > plan.monitor_timeout_s + plan.lease_s + 5
            ):
                assert self.world.now >= gate.lease_until

    @invariant()
    def nothing_that_is_rolled_back_has_a_table(self) -> None:
        if self.world.state.phase == "rolled_back":
            for gate in self.world.gateways.values():
                assert gate.table is not None
                assert NEW.name not in gate.table.routes["tutor"].variants

    @invariant()
    def a_gateway_that_was_taken_back_stays_so(self) -> None:
        if self.world.state.phase not in ("rolling_back", "rolled_back"):
            self.taken_back = set()
            return
        for name, gate in self.world.gateways.items():
            assert gate.table is not None
            has_candidate = NEW.name in gate.table.routes["tutor"].variants
            assert not (has_candidate and name in self.taken_back)
            if not has_candidate:
                self.taken_back.add(name)

    def teardown(self) -> None:
        """When all faults are over, everything ends: live, refused, or taken back with stable alone."""
        world = self.world
        ends = ("live", "rolled_back", "refused")
        had_ended = world.state.phase in ends
        world.loads_fail = False
        for replica in world.replicas.values():
            replica.up = True
        for gate in world.gateways.values():
            gate.up = gate.readable = True
        for _ in range(400):
            if world.state.awaiting_approval:
                world.approval = Approval(stage_index=world.state.stage_index, approved=True, by="ann", reason="fine")
            world.both_serve(40)
            world.tick()
            if world.state.phase in ends:
                break
        world.tick()
        world.tick()
        assert world.state.phase in ends
        self.never_both_promoted_and_rolled_back()
        self.nothing_that_is_rolled_back_has_a_table()
        for gate in world.gateways.values():
            assert gate.table is not None
            assert set(gate.table.routes["tutor"].variants) == {world.live.name}
        # a vLLM that restarts after the end is for whoever starts it, and a refused release has changed nothing
        for url in world.live.variant.upstreams:
            assert had_ended or world.state.phase == "refused" or world.live.variant.model in world.replicas[url].models


AnyOrder.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = AnyOrder.TestCase
