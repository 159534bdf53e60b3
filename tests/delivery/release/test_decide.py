"""`decide`, phase by phase: what advances a release, what holds it, and what takes it back."""

import pytest
from rollout_world import BASE, NEW, OLD, PLAN, VLLM, Gateway, Replica, World

from configs.contract import Contract
from configs.rollout import Check
from delivery.release.decide import watching
from delivery.release.state import (
    Approval,
    Command,
    Commit,
    LoadAdapter,
    Quarantine,
    RenewLease,
    SetTable,
    UnloadAdapter,
)
from delivery.traffic.records import InFlight, Tripped

ROLLBACK = Command(id=1, kind="rollback", by="ann", reason="users complain")


def kinds(world: World) -> list[str]:
    return [action.action for action in world.done if not isinstance(action, RenewLease)]


def test_a_good_release_goes_through_all_stages_and_is_live() -> None:
    world = World()
    world.until("live")
    assert [record.stage for record in world.state.stages] == ["0-shadow", "1-canary", "2-canary", "3-full", "4-watch"]
    assert all(record.verdict == "pass" and record.requests >= 20 for record in world.state.stages)
    assert world.live == NEW
    world.tick()
    table = world.gateways["gw"].table
    assert table is not None
    route = table.routes["tutor"]
    assert (route.stable, route.candidate, route.holdback) == ("new", None, None)
    assert "tutor-old" in world.replicas[VLLM].models  # the previous bundle stays loaded
    assert world.quarantined == set()


def test_every_share_waits_for_the_adapter_to_be_listed_and_probed() -> None:
    world = World()
    world.tick()
    assert [type(action) for action in world.done] == [LoadAdapter]
    world.replicas[VLLM].verified = set()  # listed, but no probe was answered
    world.tick()
    assert world.state.phase == "preparing"
    world.tick()
    assert world.state.phase == "stage"


def test_every_replica_must_have_the_adapter() -> None:
    two = NEW.model_copy(update={"variant": NEW.variant.model_copy(update={"upstreams": (VLLM, "http://second")})})
    world = World(replicas={VLLM: Replica({"base", "tutor-old"}), "http://second": Replica({"base"}, up=False)})
    world.state = world.state.model_copy(update={"candidate": two})
    world.tick()
    world.tick()
    assert world.state.phase == "preparing"
    assert "http://second" in world.state.reason
    world.replicas["http://second"].up = True
    world.tick()
    world.tick()
    assert world.state.phase == "stage"


def test_stable_keeps_its_traffic_until_the_commit() -> None:
    world = World()
    for _ in range(40):
        world.both_serve(30)
        world.tick()
        if world.live == NEW:
            break
        table = world.gateways["gw"].table
        assert table is not None
        assert table.routes["tutor"].stable == "old"
        if world.state.awaiting_approval:
            world.approval = Approval(stage_index=2, approved=True, by="ann", reason="fine")
    assert world.live == NEW


def test_the_commit_comes_with_the_watch_table_and_its_holdback() -> None:
    world = World()
    world.until_stage(4)
    assert world.live == NEW
    table = world.gateways["gw"].table
    assert table is not None
    route = table.routes["tutor"]
    assert route.stable == "new"
    assert route.holdback is not None
    assert (route.holdback.variant, route.holdback.share_bp) == ("old", 1000)


def test_a_user_never_moves_back_because_a_releases_salt_stays() -> None:
    world = World()
    world.until("live")
    released = [table for revision, table in world.tables.items() if revision > 7]
    assert {table.routes["tutor"].salt for table in released} == {"r1"}
    epochs = [table.routes["tutor"].epoch for table in released]
    assert len(set(epochs)) == len(epochs)


def test_a_candidate_that_fails_outright_is_taken_back_in_the_same_tick() -> None:
    world = World()
    world.until_stage(1)
    world.serve("new", 5, ok=False)
    world.done.clear()
    decision = world.tick()
    assert world.state.phase == "rolling_back"
    assert decision.verdict == "fail"
    assert isinstance(world.done[0], SetTable)
    assert set(world.done[0].table.routes["tutor"].variants) == {"old"}
    assert world.exposed_bp() == 0
    note = world.state.rollback
    assert note is not None
    assert note.first_bad_at == world.now - 1
    assert "100 % (5 of 5)" in note.reason


def test_a_rollback_drains_unloads_and_quarantines_in_this_order() -> None:
    world = World()
    world.until_stage(1)
    table = world.gateways["gw"].table
    assert table is not None
    epoch = table.routes["tutor"].epoch
    world.gateways["gw"].in_flight = (
        InFlight(route="tutor", epoch=epoch, variant="new", role="served", user="u", started_at=world.now),
    )
    world.serve("new", 8, ok=False)
    world.done.clear()
    for _ in range(4):
        world.tick()
    assert kinds(world) == ["set_table"]  # a request is still being answered
    world.gateways["gw"].in_flight = ()
    for _ in range(3):
        world.tick()
    assert kinds(world) == ["set_table", "unload_adapter", "quarantine"]
    assert world.state.phase == "rolled_back"
    assert world.quarantined == {NEW.bundle}
    assert world.live == OLD
    assert world.replicas[VLLM].models == {"base", "tutor-old"}


def test_draining_is_bounded() -> None:
    world = World()
    world.until_stage(1)
    stuck = InFlight(route="tutor", epoch="e", variant="new", role="served", user="u", started_at=0)
    world.gateways["gw"].in_flight = (stuck,)
    world.command = ROLLBACK
    for _ in range(int(PLAN.drain_s) + 5):
        world.tick()
    assert world.state.phase == "rolled_back"


def test_an_adapter_that_the_table_still_uses_is_not_unloaded() -> None:
    world = World()
    shared = NEW.model_copy(update={"variant": NEW.variant.model_copy(update={"model": "tutor-old"})})
    world.state = world.state.model_copy(update={"candidate": shared})
    world.tick()
    world.tick()
    world.command = ROLLBACK
    for _ in range(15):
        world.tick()
    assert world.state.phase == "rolled_back"
    assert "tutor-old" in world.replicas[VLLM].models
    assert not any(isinstance(action, UnloadAdapter) for action in world.done)


@pytest.mark.parametrize("stage", [0, 1, 2, 3, 4])
def test_a_person_can_take_it_back_in_every_stage(stage: int) -> None:
    world = World()
    world.until_stage(stage)
    world.both_serve(100)  # enough to advance: the command comes first
    world.command = ROLLBACK
    world.done.clear()
    world.tick()
    assert isinstance(world.done[0], SetTable)
    assert world.exposed_bp() == 0
    assert world.live == OLD
    for _ in range(4):
        world.tick()
    assert world.state.phase == "rolled_back"
    assert world.quarantined == {NEW.bundle}


def test_a_finished_release_can_be_undone_and_its_predecessors_adapter_comes_first() -> None:
    world = World()
    world.until("live")
    world.tick()
    world.replicas[VLLM].models.discard("tutor-old")  # vLLM was restarted since
    world.command = ROLLBACK
    world.done.clear()
    world.tick()
    assert kinds(world)[:2] == ["load_adapter", "set_table"]
    assert world.live == OLD
    for _ in range(4):
        world.tick()
    assert world.state.phase == "rolled_back"


def test_a_rollback_to_the_base_serves_the_base() -> None:
    world = World()
    world.until("live")
    world.command = ROLLBACK.model_copy(update={"target": BASE})
    for _ in range(5):
        world.tick()
    table = world.gateways["gw"].table
    assert table is not None
    assert set(table.routes["tutor"].variants) == {"base"}
    assert world.live == BASE
    assert world.state.phase == "rolled_back"


def test_a_repeated_rollback_changes_nothing() -> None:
    world = World()
    world.until_stage(1)
    world.command = ROLLBACK
    for _ in range(5):
        world.tick()
    before = (world.state.phase, max(world.tables), len([a for a in world.done if isinstance(a, Quarantine)]))
    for _ in range(5):
        world.tick()
    assert (world.state.phase, max(world.tables), len([a for a in world.done if isinstance(a, Quarantine)])) == before


def test_a_cancelled_release_is_taken_back_but_not_quarantined() -> None:
    world = World()
    world.until_stage(1)
    world.command = Command(id=1, kind="cancel", by="slipway", reason="superseded")
    for _ in range(5):
        world.tick()
    assert world.state.phase == "rolled_back"
    assert world.quarantined == set()


def test_a_quarantined_bundle_is_refused_before_anything_happens() -> None:
    world = World(refusal="bundle is quarantined: bad")
    world.tick()
    assert world.state.phase == "refused"
    assert world.done == []


def test_no_traffic_holds_for_a_bounded_time_and_then_goes_back() -> None:
    world = World()
    world.until_stage(1)
    for _ in range(int(PLAN.max_hold_s)):
        world.tick()
    assert (world.state.phase, world.state.stage_index) == ("stage", 1)
    for _ in range(3):
        world.tick()
    assert world.state.rollback is not None
    assert "held for more than 60 s" in world.state.rollback.reason


def test_a_stage_that_cannot_decide_ends_at_its_maximum_duration() -> None:
    stages = (PLAN.stages[0], PLAN.stages[1].model_copy(update={"max_duration_s": 30}), *PLAN.stages[2:])
    world = World(plan=PLAN.model_copy(update={"stages": stages}), users=10_000)
    world.until_stage(1)
    for _ in range(29):
        world.serve("new", 4)
        world.serve("new", 1, ok=False)  # 20 %, the limit itself
        world.tick()
    assert (world.state.phase, world.state.verdict) == ("stage", "inconclusive")
    for _ in range(3):
        world.serve("new", 1)
        world.tick()
    assert world.state.rollback is not None
    assert "1-canary did not pass within 30 s" in world.state.rollback.reason


def test_a_pass_needs_the_stages_minimum_duration() -> None:
    world = World()
    world.until_stage(4)
    world.both_serve(100)
    world.tick()
    assert (world.state.phase, world.state.verdict) == ("stage", "pass")
    world.tick()
    world.tick()
    assert world.state.phase == "live"


def test_evidence_of_one_share_never_counts_for_another() -> None:
    world = World()
    world.until_stage(1)
    assert world.state.evidence.candidate.requests == 0
    world.both_serve(15)
    world.tick()
    assert world.state.evidence.candidate.requests == 15
    world.both_serve(15)
    world.tick()
    assert world.state.stage_index == 2
    assert world.state.evidence.candidate.requests == 0


# -- approvals ------------------------------------------------------------------------------------------------------


def waiting_for_approval() -> World:
    world = World()
    world.until_stage(2)
    world.both_serve(40)
    world.tick()
    assert world.state.awaiting_approval
    assert world.asked == [2]
    return world


def test_a_stage_with_approval_waits_for_a_named_person() -> None:
    world = waiting_for_approval()
    for _ in range(100):
        world.tick()
    assert (world.state.phase, world.state.stage_index) == ("stage", 2)
    world.approval = Approval(stage_index=2, approved=True, by="ann", reason="read 20 answers")
    world.tick()
    assert world.state.stage_index == 3
    assert world.asked == [2]


def test_an_approval_of_another_stage_does_not_count() -> None:
    world = waiting_for_approval()
    world.approval = Approval(stage_index=1, approved=True, by="ann", reason="fine")
    world.tick()
    assert world.state.stage_index == 2


def test_the_analysis_keeps_its_authority_while_an_approval_is_awaited() -> None:
    world = waiting_for_approval()
    world.serve("new", 40, ok=False)
    world.approval = Approval(stage_index=2, approved=True, by="ann", reason="fine")
    world.tick()
    assert world.state.phase == "rolling_back"


def test_a_rollback_is_heard_while_an_approval_is_awaited() -> None:
    world = waiting_for_approval()
    world.command = ROLLBACK
    world.approval = Approval(stage_index=2, approved=True, by="bob", reason="fine")
    world.tick()
    assert world.state.phase == "rolling_back"


def test_a_rejection_takes_the_release_back() -> None:
    world = waiting_for_approval()
    world.approval = Approval(stage_index=2, approved=False, by="ann", reason="answers too long")
    world.tick()
    assert world.state.rollback is not None
    assert "rejected by ann: answers too long" in world.state.rollback.reason


def test_an_approval_that_never_comes_takes_the_release_back() -> None:
    world = waiting_for_approval()
    for _ in range(int(PLAN.approval_timeout_s) + 2):
        world.tick()
    assert world.state.rollback is not None
    assert "no approval within 300 s" in world.state.rollback.reason


def test_a_plan_may_rather_tell_and_go_on_waiting_for_an_approval() -> None:
    world = World(plan=PLAN.model_copy(update={"on_approval_timeout": "alert"}))
    world.until_stage(2)
    for _ in range(int(PLAN.approval_timeout_s) + 30):
        world.both_serve(5)
        world.tick()
    assert world.state.awaiting_approval
    assert [alert for alert in world.alerts if "still waiting" in alert] == ["no approval within 300 s: still waiting"]
    world.until("live")


# -- monitors, incidents, lost adapters -----------------------------------------------------------------------------


def test_a_dead_monitor_holds_alerts_and_lets_the_lease_end() -> None:
    world = World()
    world.until_stage(1)
    world.both_serve(100)
    world.gateways["gw"].readable = False
    for _ in range(8):
        world.tick()
    assert (world.state.phase, world.state.stage_index) == ("stage", 1)
    assert len(world.alerts) == 1
    assert "no records" in world.alerts[0]
    for _ in range(15):
        world.tick()
    assert world.exposed_bp() == 0  # nobody watches, nobody is exposed
    world.gateways["gw"].readable = True
    world.tick()
    assert world.state.stage_index == 2  # the evidence was there all the time


def test_a_monitor_that_stays_dead_takes_the_release_back() -> None:
    world = World()
    world.until_stage(1)
    world.gateways["gw"].readable = False
    for _ in range(int(PLAN.max_hold_s) + 3):
        world.tick()
    assert world.exposed_bp() == 0
    assert world.state.rollback is not None


def test_a_shared_incident_pauses_and_goes_on_when_it_is_over() -> None:
    world = World()
    world.until_stage(1)
    world.serve("old", 20, ok=False)
    world.serve("old", 20)
    world.serve("new", 10, ok=False)
    world.serve("new", 10)
    world.tick()
    assert world.state.phase == "stage"
    assert any("shared incident" in text for text in world.alerts)


def test_a_gateway_restart_loses_no_evidence_that_was_read_and_counts_nothing_twice() -> None:
    world = World()
    world.until_stage(1)
    world.serve("new", 10)
    world.tick()
    world.gateways["gw"].restart()
    world.serve("new", 5)
    world.tick()
    evidence = world.state.evidence
    assert (evidence.candidate.requests, evidence.restarts) == (15, 1)


def test_a_replica_that_lost_its_adapter_gets_it_back_before_its_share() -> None:
    world = World()
    world.until_stage(1)
    world.replicas[VLLM].restart()
    world.done.clear()
    world.tick()
    assert world.state.suspended
    assert world.exposed_bp() == 0
    assert kinds(world)[0] == "set_table"
    assert {a.name for a in world.done if isinstance(a, LoadAdapter)} == {"tutor-old", "tutor-new"}
    world.tick()
    assert not world.state.suspended
    assert world.exposed_bp() == 1000
    assert world.state.evidence.epoch == "r1/1-canary.1"
    world.until("live")


def test_a_candidates_replica_that_is_gone_loses_its_share_after_a_moment() -> None:
    world = World()
    world.until_stage(1)
    world.replicas[VLLM].up = False
    world.tick()
    assert world.exposed_bp() == 1000  # one listing may be late
    for _ in range(6):
        world.tick()
    assert world.exposed_bp() == 0
    world.replicas[VLLM].up = True
    world.tick()
    world.tick()
    world.tick()
    assert world.exposed_bp() == 1000


def test_an_adapter_that_cannot_be_loaded_ends_the_release_without_a_quarantine() -> None:
    world = World(loads_fail=True)
    for _ in range(12):
        world.tick()
    assert world.state.phase == "rolled_back"
    assert world.quarantined == set()
    assert world.state.rollback is not None
    assert "cannot load tutor-new" in world.state.rollback.reason


def test_a_rollback_is_complete_only_when_every_gateway_shows_it() -> None:
    world = World(gateways={"gw": Gateway(None), "second": Gateway(None)})
    world.until_stage(1)
    world.gateways["second"].up = False
    world.command = ROLLBACK
    for _ in range(30):
        world.tick()
    assert world.state.phase == "rolling_back"
    assert world.exposed_bp() == 0  # the lease ended there
    world.gateways["second"].up = True
    for _ in range(4):
        world.tick()
    assert world.state.phase == "rolled_back"


def test_other_routes_of_the_gateway_are_left_alone() -> None:
    world = World()
    gateway = world.gateways["gw"]
    assert gateway.table is not None
    other = gateway.table.routes["tutor"].model_copy(update={"epoch": "other"})
    gateway.table = gateway.table.model_copy(update={"routes": {**gateway.table.routes, "other": other}, "revision": 9})
    world.tables[9] = gateway.table
    world.until("live")
    world.tick()
    assert gateway.table is not None
    assert gateway.table.routes["other"] == other


# -- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_a_jump_of_the_clock_ends_nothing(jump_s: float) -> None:
    plan = PLAN.model_copy(update={"max_hold_s": 900})
    world = World(plan=plan)
    world.until_stage(1)
    world.tick(jump_s)
    assert (world.state.phase, world.state.stage_index) == ("stage", 1)
    world.until("live")


# -- watching what is live ------------------------------------------------------------------------------------------


def test_a_live_release_can_be_watched_and_stays_live_when_it_is_good() -> None:
    world = World()
    world.until("live")
    world.tick()
    world.state = watching(world.state, 5, 500, world.now)
    world.until("live")
    world.tick()
    table = world.gateways["gw"].table
    assert table is not None
    assert table.routes["tutor"].holdback is None


def test_a_live_release_that_goes_bad_while_watched_is_taken_back() -> None:
    world = World()
    world.until("live")
    world.tick()
    world.state = watching(world.state, 50, 500, world.now)
    world.tick()
    world.serve("new", 20, ok=False)
    world.serve("old", 20)
    decision = world.tick()
    assert decision.actions[-1] == Commit(live=OLD, previous=None)
    for _ in range(4):
        world.tick()
    assert world.state.phase == "rolled_back"
    assert world.live == OLD


def test_candidate_and_stable_are_judged_by_the_candidates_contract_until_it_is_taken_back() -> None:
    contract = Contract.model_validate({"detectors": {"refusal": {"kind": "refusal"}}})
    world = World()
    world.state = world.state.model_copy(update={"candidate": NEW.model_copy(update={"contract": contract})})
    for index in range(len(PLAN.stages)):
        world.until_stage(index)
        assert judged_by(world) == contract
    world.command = ROLLBACK
    world.until("rolled_back")
    assert judged_by(world) is None


def judged_by(world: World) -> Contract | None:
    table = world.gateways["gw"].table
    assert table is not None
    return table.routes["tutor"].contract


TRIP = Tripped(
    route="tutor", epoch="", variant="new", since=1003.5, failures=5, users=2, error="connect", answered_elsewhere=4
)


def tripped(world: World, **more: object) -> None:
    """The gateway has taken the candidate's users away by itself."""
    world.gateways["gw"].tripped = (TRIP.model_copy(update={"epoch": world.state.evidence.epoch} | more),)
    world.tick()


@pytest.mark.parametrize("stage", range(5))
def test_a_trip_takes_nothing_back_by_itself_and_is_told_until_the_gateway_gives_the_users_back(stage: int) -> None:
    world = World()
    world.until_stage(stage)
    tripped(world)
    assert (world.state.phase, world.state.verdict) == ("stage", "inconclusive")
    assert "5 attempts in a row failed (users: 2, the last with connect)" in world.state.reason
    assert [alert for alert in world.alerts if "its users are with stable" in alert]
    world.gateways["gw"].tripped = ()
    world.tick()
    assert world.alerts[-1] == "new answers again: the gateway has given it its users back"
    world.tick()
    assert sum("answers again" in alert for alert in world.alerts) == 1
    world.until("live")


def test_a_tripped_candidate_is_taken_back_by_its_checks_and_else_for_want_of_evidence() -> None:
    world = World()
    world.until_stage(1)
    for _ in range(100):
        world.serve("new", 1, ok=False)
        tripped(world)
        if world.state.phase != "stage":
            break
    assert world.state.rollback is not None
    assert (world.state.rollback.first_bad_at, world.state.rollback.quarantine) == (pytest.approx(1003.0), True)
    silent = World()
    silent.until_stage(1)
    while silent.state.phase == "stage":
        tripped(silent)
    assert "without new evidence" in silent.state.reason


@pytest.mark.parametrize(
    "more", [{"answered_elsewhere": 0}, {"epoch": "r1/0-shadow"}, {"variant": "old"}, {"route": "other"}]
)
def test_a_trip_that_is_not_the_candidates_own_takes_nothing_back(more: dict[str, object]) -> None:
    world = World()
    world.until_stage(1)
    tripped(world, **more)
    assert world.state.phase == "stage"


def test_a_trip_while_the_adapter_is_missing_is_answered_by_loading_it_again() -> None:
    world = World()
    world.until_stage(1)
    world.replicas[VLLM].restart()
    tripped(world)
    assert (world.state.phase, world.state.suspended) == ("stage", True)


def test_a_trip_while_the_replica_is_silent_waits_for_it() -> None:
    world = World()
    world.until_stage(1)
    world.replicas[VLLM].up = False
    tripped(world)
    assert world.state.phase == "stage"


@pytest.mark.parametrize(("predecessor_too", "ends"), [(False, "rolled_back"), (True, "live")])
def test_a_watch_compares_with_the_users_held_back_on_the_predecessor(predecessor_too: bool, ends: str) -> None:
    world = World()
    world.until("live")
    check = Check(metric="error_rate", max_increase=0.3, stages=("watch",))
    world.plan = PLAN.model_copy(update={"checks": (check,)})
    world.state = watching(world.state, watch_s=60, holdback_bp=500, now=world.now)
    for _ in range(120):
        for variant, bad in (("new", True), ("old", predecessor_too)):
            world.serve(variant, 10, ok=not bad)
            world.serve(variant, 10)
        world.tick()
        if world.state.phase in ("live", "rolled_back"):
            break
    assert world.state.phase == ends, world.state.reason
    assert world.live == (OLD if ends == "rolled_back" else NEW)
