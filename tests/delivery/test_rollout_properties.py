"""Whatever happens, in whatever order, with whichever action failing: what must hold for every release."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rollout_world import BASE, NEW, OLD, VLLM, Gateway, World

from delivery.release import Approval, Command, ReleaseState, SetTable
from delivery.rollout import watching

FAILING = st.frozensets(st.integers(0, 5))


class AnyOrder(RuleBasedStateMachine):
    """Faults, traffic, people and crashes around one release."""

    @initialize(gateways=st.integers(1, 2))
    def start(self, gateways: int) -> None:
        self.world = World(gateways={name: Gateway(None) for name in ("gw", "second")[:gateways]})
        self.taken_back: set[str] = set()  # gateways that have served stable alone since the rollback began
        self.was_rolled_back = False
        self.top = 7

    @rule(step_s=st.sampled_from([0.0, 1.0, 1.0, 1.0, 5.0]), failing=FAILING, crash=st.none() | st.integers(0, 4))
    def tick(self, step_s: float, failing: frozenset[int], crash: int | None) -> None:
        """A controller's tick, in which actions may fail and which it may not survive."""
        world = self.world
        decision = world.tick(step_s, failing=failing, crash_after=crash)
        if crash is not None:  # the next one starts from what is on record
            persisted = ReleaseState.model_validate_json(world.state.model_dump_json())
            assert persisted == world.state
            world.state = persisted
            world.replicas[VLLM].verified = set()
        for action in decision.actions:
            if isinstance(action, SetTable):
                route = action.table.routes["tutor"]
                assert action.table.revision >= self.top
                self.top = action.table.revision
                if decision.state.phase in ("rolling_back", "rolled_back"):
                    assert NEW.name not in route.variants
                if NEW.name in route.variants:
                    assert not decision.state.suspended

    @rule(times=st.integers(1, 6))
    def quiet_ticks(self, times: int) -> None:
        for _ in range(times):
            self.tick(1.0, frozenset(), None)

    @rule(count=st.integers(1, 60), good=st.booleans())
    def traffic(self, count: int, good: bool) -> None:
        self.world.both_serve(count, ok=good)

    @rule()
    def good_traffic(self) -> None:
        self.world.both_serve(40)

    @rule(jump_s=st.sampled_from([-1e5, -30.0, 100.0, 1e5]))
    def clock_jumps(self, jump_s: float) -> None:
        self.world.now += jump_s

    @rule(which=st.sampled_from(["gw", "second"]), up=st.booleans(), readable=st.booleans())
    def gateway_comes_and_goes(self, which: str, up: bool, readable: bool) -> None:
        if which in self.world.gateways:
            self.world.gateways[which].up = up
            self.world.gateways[which].readable = readable

    @rule(which=st.sampled_from(["gw", "second"]))
    def gateway_restarts(self, which: str) -> None:
        if which in self.world.gateways:
            self.world.gateways[which].restart()

    @rule(up=st.booleans(), restarted=st.booleans(), loads_fail=st.booleans())
    def vllm_comes_and_goes(self, up: bool, restarted: bool, loads_fail: bool) -> None:
        replica = self.world.replicas[VLLM]
        replica.up, self.world.loads_fail = up, loads_fail
        if restarted:
            replica.restart()

    @rule(approved=st.booleans(), stage=st.integers(0, 4))
    def somebody_decides(self, approved: bool, stage: int) -> None:
        self.world.approval = Approval(stage_index=stage, approved=approved, by="ann", reason="because")

    @precondition(lambda self: self.world.command is None)
    @rule(kind=st.sampled_from(["rollback", "cancel"]), to_base=st.booleans())
    def somebody_asks(self, kind: str, to_base: bool) -> None:
        target = BASE if to_base and kind == "rollback" else None
        self.world.command = Command.model_validate(
            {"id": 1, "kind": kind, "by": "ann", "reason": "because", "target": target}
        )

    @precondition(lambda self: self.world.state.phase == "live" and self.world.command is None)
    @rule(holdback_bp=st.sampled_from([0, 500]))
    def watched_again(self, holdback_bp: int) -> None:
        self.world.state = watching(self.world.state, 20, holdback_bp, self.world.now)

    @invariant()
    def never_both_promoted_and_rolled_back(self) -> None:
        phase = self.world.state.phase
        if phase == "rolled_back":
            self.was_rolled_back = True
            assert self.world.live != NEW
        if phase == "live":
            assert not self.was_rolled_back
            assert self.world.live == NEW
        if phase in ("preparing", "refused"):
            assert self.world.live == OLD

    @invariant()
    def stable_is_in_every_table_as_it_is_served(self) -> None:
        for gate in self.world.gateways.values():
            assert gate.table is not None
            route = gate.table.routes["tutor"]
            assert route.variants[route.stable] in (OLD.variant, NEW.variant, BASE.variant)
            if route.candidate is not None:  # no stage before the commit touches stable
                assert route.variants["old"] == OLD.variant
                assert route.stable == "old"

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
        """When all faults are over, everything ends: live, or taken back with stable alone."""
        world = self.world
        had_ended = world.state.phase in ("live", "rolled_back")
        world.replicas[VLLM].up, world.loads_fail = True, False
        for gate in world.gateways.values():
            gate.up = gate.readable = True
        for _ in range(400):
            if world.state.awaiting_approval:
                world.approval = Approval(stage_index=world.state.stage_index, approved=True, by="ann", reason="fine")
            world.both_serve(40)
            world.tick()
            if world.state.phase in ("live", "rolled_back"):
                break
        world.tick()
        world.tick()
        assert world.state.phase in ("live", "rolled_back")
        self.never_both_promoted_and_rolled_back()
        self.nothing_that_is_rolled_back_has_a_table()
        for gate in world.gateways.values():
            assert gate.table is not None
            assert set(gate.table.routes["tutor"].variants) == {world.live.name}
        # a vLLM that restarts after the end is for whoever starts it
        assert had_ended or world.live.variant.model in world.replicas[VLLM].models


AnyOrder.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = AnyOrder.TestCase
