"""A stage that waits for a named person."""

from dataclasses import replace

import pytest
from release_fakes import PLAN, lora_bundle, site_of
from release_scene import Scene, when

from configs.errors import SlipwayError
from configs.rollout import RolloutPlan
from delivery.clients.ledger.ledger import LeaseHeldError
from tasks.release.run import approve


def with_approval(plan: RolloutPlan) -> RolloutPlan:
    stages = (plan.stages[0], plan.stages[1].model_copy(update={"approval": True}), *plan.stages[2:])
    return plan.model_copy(update={"stages": stages})


def test_a_release_waits_for_an_approval_and_goes_on(scene: Scene) -> None:
    scene.plan = with_approval(PLAN)

    with pytest.raises(SlipwayError, match="nothing on route"):
        approve(scene.site, "tutor", approved=True, by="ann", reason="fine")
    when(
        scene.world,
        lambda: waits_for_approval(scene),
        lambda: approve(scene.site, "tutor", approved=True, by="ann", reason="fine") and None,
    )
    assert scene.release().outcome == "live"
    assert any("a named person must approve" in text for text in scene.said)


def waits_for_approval(scene: Scene) -> bool:
    found = scene.ledger.unfinished("local", "tutor")
    return found is not None and found.awaiting_approval


def test_a_rejection_by_a_named_person_takes_the_release_back_with_his_words(scene: Scene) -> None:
    scene.plan = with_approval(PLAN)

    def reject() -> None:
        approve(scene.site, "tutor", approved=False, by="ann", reason="the tone is off")

    when(scene.world, lambda: waits_for_approval(scene), reject)
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert "ann: the tone is off" in outcome.reason


def test_an_answer_is_heard_before_the_next_tick(scene: Scene) -> None:
    scene.plan = with_approval(PLAN).model_copy(update={"tick_s": 30, "max_hold_s": 600})
    answered_at: list[float] = []

    def answer() -> None:
        approve(scene.site, "tutor", approved=True, by="ann", reason="fine")
        answered_at.append(scene.world.clock())

    def sleep(seconds: float) -> None:
        scene.world.sleep(seconds)
        if waits_for_approval(scene) and not answered_at:
            answer()

    scene.release(site=replace(scene.site, sleep=sleep))
    found = scene.ledger.decisions(scene.ledger.releases("local")[0]["id"])
    entered = next(row["at"] for row in found if row["stage_index"] == 2)
    assert entered - answered_at[0] < 1


def test_a_newer_bundle_supersedes_a_release_that_waits_for_approval_while_its_controller_runs(scene: Scene) -> None:
    scene.plan = with_approval(PLAN)
    second, refused = scene.built(2), lora_bundle(scene.home, 3)
    newer = site_of(scene.world, scene.home, scene.ledger, owner="bob")
    newer = replace(newer, sleep=lambda seconds: (_ for _ in ()).throw(TimeoutError))  # it would wait for the first

    def come() -> None:
        with pytest.raises(LeaseHeldError):  # what the gate never saw supersedes nothing
            scene.release(refused, site=replace(scene.site, owner="carol", sleep=scene.world.sleep))
        with pytest.raises(TimeoutError):
            scene.release(second, site=newer)

    when(scene.world, lambda: waits_for_approval(scene), come)
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert f"superseded by bundle {second.digest[7:19]}" in outcome.reason
    assert scene.ledger.quarantined(scene.new.digest) == ""
    scene.plan = PLAN
    assert scene.release(second).outcome == "live"
