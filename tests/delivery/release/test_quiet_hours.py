"""A release in a quiet hour waits for traffic, bounded, where its plan says so."""

from rollout_world import PLAN, World

PATIENT = PLAN.model_copy(update={"wait_for_traffic_s": 500.0})


def test_a_stages_time_does_not_run_while_nobody_asks() -> None:
    world = World(plan=PATIENT)
    world.until_stage(1)
    for _ in range(400):
        world.tick()
    assert (world.state.phase, world.state.stage_index) == ("stage", 1)
    assert world.alerts == ["nobody asks: waiting for traffic, 500 s a stage at most"]
    world.until("live")
    assert world.quarantined == set()


def test_the_wait_is_bounded_and_ends_without_blame() -> None:
    world = World(plan=PATIENT)
    world.until_stage(1)
    for _ in range(500 + int(PLAN.max_hold_s) - 2):
        world.tick()
    assert world.state.phase == "stage"
    for _ in range(20):
        world.tick()
    assert world.state.phase == "rolled_back"
    assert world.state.rollback is not None
    assert "nobody asked" in world.state.rollback.reason
    assert world.quarantined == set()


def test_a_dead_monitor_is_no_quiet_hour() -> None:
    world = World(plan=PATIENT)
    world.until_stage(1)
    world.gateways["gw"].readable = False
    for _ in range(int(PLAN.max_hold_s) + 3):
        world.tick()
    assert world.state.rollback is not None


def test_a_stage_with_few_requests_gets_the_time_between_them_for_its_evidence() -> None:
    stages = tuple(stage.model_copy(update={"max_duration_s": 60, "approval": False}) for stage in PLAN.stages)
    world = World(plan=PATIENT.model_copy(update={"stages": stages}))
    world.until_stage(1)
    for second in range(300):
        if second % 10 == 0:
            world.both_serve(1)
        world.tick()
    assert world.state.stage_index == 2  # 20 requests took 200 s
