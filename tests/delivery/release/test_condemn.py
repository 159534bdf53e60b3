"""What is taken back is ruled out only by evidence against it; else the ledger says what was missing."""

from collections.abc import Callable

import pytest
from rollout_world import NEW, PLAN, VLLM, World

from configs.checks import Check
from configs.rollout import RolloutPlan
from delivery.checks.judgements import JudgeSeen
from delivery.release.state import Approval, Command


def ticks(world: World, seconds: float) -> None:
    for _ in range(int(seconds) + 3):
        world.tick()


def nobody_asks(world: World) -> None:
    ticks(world, PLAN.max_hold_s)


def nobody_asks_after_shadow(world: World) -> None:
    world.until_stage(1)
    ticks(world, PLAN.max_hold_s)


def all_users_fall_to_stable(world: World) -> None:
    world.until_stage(1)
    for _ in range(int(PLAN.max_hold_s) + 3):
        world.serve("old", 1)
        world.tick()


def too_few_ask(world: World) -> None:
    world.until_stage(1)
    world.both_serve(3)
    ticks(world, PLAN.max_hold_s)


def nobody_approves(world: World) -> None:
    world.until_stage(2)
    for _ in range(int(PLAN.approval_timeout_s) + 40):
        world.both_serve(3)
        world.tick()


def the_monitor_is_away(world: World) -> None:
    world.until_stage(1)
    world.gateways["gw"].readable = False
    ticks(world, PLAN.max_hold_s)


def vllm_dies_under_the_candidate(world: World) -> None:
    world.until_stage(1)
    world.replicas[VLLM].up = False
    world.serve("new", 30, ok=False)
    ticks(world, 3)


def vllm_never_comes_back(world: World) -> None:
    world.until_stage(1)
    world.replicas[VLLM].up = False
    ticks(world, PLAN.max_hold_s)


def stable_fails_in_the_same_way(world: World) -> None:
    world.until_stage(1)
    for _ in range(int(PLAN.max_hold_s) + 60):
        world.both_serve(2, ok=False)
        world.serve("old", 8, ok=False)
        world.tick()


@pytest.mark.parametrize(
    ("happens", "missing"),
    [
        (nobody_asks, "traffic: nobody asked, 20 requests are needed"),
        (nobody_asks_after_shadow, "traffic: nobody asked"),
        (all_users_fall_to_stable, "requests fell to stable"),
        (too_few_ask, "traffic: 3 of the 20 candidate requests needed"),
        (nobody_approves, "a named person's approval"),
        (the_monitor_is_away, "records of a gateway"),
        (vllm_dies_under_the_candidate, "a vLLM that serves it was away"),
        (vllm_never_comes_back, "a vLLM that serves tutor-new"),
        (stable_fails_in_the_same_way, "stable fails in the same way"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_without_evidence_it_is_taken_back_and_not_ruled_out(happens: Callable[[World], None], missing: str) -> None:
    world = World()
    happens(world)
    note = world.state.rollback
    assert note is not None
    assert not note.quarantine
    assert missing in note.reason
    world.replicas[VLLM].up = world.gateways["gw"].readable = True
    ticks(world, PLAN.drain_s)
    assert (world.state.phase, world.quarantined) == ("rolled_back", set())


def test_a_judge_that_is_away_condemns_nobody() -> None:
    judged = {
        **PLAN.model_dump(),
        "judge": {"base_url": "http://judge", "model": "j", "share_bp": 1000},
        "checks": [*PLAN.model_dump()["checks"], {"metric": "judge", "max": 0.6, "stages": ["shadow"]}],
    }
    world = World(plan=RolloutPlan.model_validate(judged))
    world.judge = JudgeSeen(error="the judge does not answer")
    for _ in range(3700):
        world.both_serve(1)
        world.tick()
        if world.state.rollback is not None:
            break
    assert world.state.rollback is not None
    assert not world.state.rollback.quarantine
    assert "the judge's answers (the judge does not answer)" in world.state.rollback.reason


def fails(world: World) -> None:
    world.until_stage(1)
    world.both_serve(20, ok=False)
    world.tick()


def is_rejected(world: World) -> None:
    world.until_stage(2)
    world.approval = Approval(stage_index=2, approved=False, by="ann", reason="the tone is off")
    world.tick()


def is_taken_back_by_a_person(world: World) -> None:
    world.until_stage(1)
    world.command = Command(id=1, kind="rollback", by="ann", reason="complaints")
    world.tick()


def fails_a_check_that_pauses(world: World) -> None:
    pauses = Check(metric="latency_p95_s", max=0.1, on_fail="pause", stages=("canary",))
    world.plan = PLAN.model_copy(update={"checks": (*PLAN.checks, pauses)})
    world.until_stage(1)
    for _ in range(int(PLAN.max_hold_s) + 30):
        world.serve("old", 30, seconds=0.05)
        world.serve("new", 30, seconds=0.5)
        world.tick()


@pytest.mark.parametrize(
    "happens", [fails, is_rejected, is_taken_back_by_a_person, fails_a_check_that_pauses], ids=lambda f: f.__name__
)
def test_with_evidence_it_is_ruled_out(happens: Callable[[World], None]) -> None:
    world = World()
    happens(world)
    assert world.state.rollback is not None
    assert world.state.rollback.quarantine, world.state.rollback.reason
    ticks(world, PLAN.drain_s)
    assert world.quarantined == {NEW.bundle}


def test_a_person_may_take_it_back_without_ruling_it_out() -> None:
    world = World()
    world.until_stage(1)
    world.command = Command(id=1, kind="rollback", by="ann", reason="not its fault", quarantine=False)
    ticks(world, PLAN.drain_s)
    assert (world.state.phase, world.quarantined) == ("rolled_back", set())
