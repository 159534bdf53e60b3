"""A release by its verbs: what goes live, what is refused, what is on record."""

from dataclasses import replace

import pytest
from release_fakes import PLAN, FakeVllm, lora_bundle, project
from release_scene import Scene, in_canary_of, killed_while, when

from configs.errors import SlipwayError
from configs.release_hours import ReleaseHours
from configs.rollout import RolloutPlan
from delivery.build.gate import GateDecision, GateFinding
from flows.cli.explain import render
from tasks.release.explain import explain_decision
from tasks.release.run import run_release
from tasks.release.start import bootstrap
from tasks.review.behind import behind_release


def test_every_recorded_decision_can_be_explained_from_the_ledger(scene: Scene) -> None:
    scene.breaks(scene.new, after_s=4)
    released = scene.release()
    last = explain_decision(scene.ledger, scene.site.name, "tutor")
    assert (last.release_id, last.verdict) == (released.release_id, "fail")
    assert released.reason == last.reason
    every = [explain_decision(scene.ledger, scene.site.name, "tutor", tick=t + 1) for t in range(last.of_ticks)]
    assert all(one.differences == () for one in every)
    assert {one.who for one in every} == {scene.site.owner}
    assert "computed again from the recorded values: the same" in render(last)
    learned = behind_release(scene.ledger, released.release_id, scene.home)
    assert learned.dataset == scene.new.dataset_version
    assert not learned.rows


def test_what_cannot_be_explained_is_named_with_what_can(scene: Scene) -> None:
    with pytest.raises(SlipwayError, match="route tutor has no release"):
        explain_decision(scene.ledger, scene.site.name, "tutor")
    released = scene.release()
    with pytest.raises(SlipwayError, match="no tick 9999"):
        explain_decision(scene.ledger, scene.site.name, "tutor", tick=9999)
    with pytest.raises(SlipwayError) as error:
        explain_decision(scene.ledger, scene.site.name, "tutor", "r0")
    assert released.release_id in str(error.value.cure)


def test_a_route_starts_with_its_base(scene: Scene) -> None:
    assert scene.serves() == {scene.base.variant_name}
    revision = scene.world.table.revision
    bootstrap(scene.site, "tutor", scene.base)
    assert scene.world.table.revision == revision  # nothing to change


def test_a_good_bundle_goes_live_and_no_user_sees_a_failure(scene: Scene) -> None:
    outcome = scene.release()
    assert (outcome.outcome, outcome.failed_user_requests) == ("live", 0)
    assert [stage.stage for stage in outcome.stages] == ["0-shadow", "1-canary", "2-full", "3-watch"]
    assert all(stage.verdict == "pass" and stage.evidence for stage in outcome.stages)
    assert scene.serves() == {scene.new.variant_name}
    pointers = scene.ledger.route("local", "tutor")
    assert pointers is not None
    assert (pointers.live.bundle, pointers.previous and pointers.previous.bundle) == (
        scene.new.digest,
        scene.base.digest,
    )
    assert scene.ledger.holder("local") is None


def test_releasing_what_is_live_does_nothing(scene: Scene) -> None:
    first = scene.release()
    revision = scene.world.table.revision
    outcome = scene.release()
    assert (outcome.outcome, outcome.release_id) == ("live", first.release_id)
    assert scene.world.table.revision == revision


def test_a_bundle_that_breaks_in_canary_is_rolled_back_without_a_failed_user(scene: Scene) -> None:
    when(
        scene.world,
        lambda: (route := scene.world.table.routes["tutor"]).candidate is not None and route.epoch.endswith("1-canary"),
        lambda: scene.breaks(scene.new, 0.0),
    )
    outcome = scene.release()
    assert (outcome.outcome, outcome.failed_user_requests) == ("rolled_back", 0)
    assert scene.world.read()["failed_users"] == 0
    assert "error rate" in outcome.reason
    assert scene.serves() == {scene.base.variant_name}
    assert scene.ledger.quarantined(scene.new.digest)
    assert scene.new.served_name not in scene.world.models
    assert outcome.breach_to_stable_s is not None
    assert outcome.breach_to_stable_s <= 2 * scene.plan.tick_s
    assert outcome.decision_to_stable_s == 0
    again = scene.release()
    assert again.outcome == "refused"
    assert "quarantined" in again.reason


def test_a_bundle_that_breaks_after_the_commit_is_rolled_back_too(scene: Scene) -> None:
    when(
        scene.world,
        lambda: scene.world.table.routes["tutor"].holdback is not None,
        lambda: scene.breaks(scene.new, 0.0),
    )
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    pointers = scene.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == scene.base.digest


def test_every_decision_is_on_record_with_what_it_compared(scene: Scene) -> None:
    outcome = scene.release()
    rows = scene.ledger.decisions(outcome.release_id)
    assert [row["phase"] for row in rows][-1] == "live"
    passes = [row for row in rows if row["verdict"] == "pass"]
    assert len(passes) == 5  # each stage, and the end
    for row in passes[:4]:
        assert row["results"][0]["candidate_requests"] >= 10
        assert row["results"][0]["limit"] == 0.2
        assert row["who"] == "me"
    assert len(rows) < 20  # changes, not seconds


def test_the_base_model_with_another_prompt_can_be_released_without_an_adapter(scene: Scene) -> None:
    other = scene.base.model_copy(update={"system_prompt": "another prompt"})
    assert scene.release(other).outcome == "live"
    assert scene.serves() == {other.variant_name}


def test_a_bundle_for_another_place_is_refused(scene: Scene) -> None:
    elsewhere = scene.new.model_copy(update={"route": "essays"})
    assert scene.release(elsewhere).outcome == "refused"
    foreign = scene.new.model_copy(update={"base_model": "llama"})
    assert "needs base model llama" in scene.release(foreign).reason


def test_what_vllm_cannot_serve_is_refused_before_it_is_loaded(scene: Scene) -> None:
    vllm = project().environment.vllm.model_copy(update={"max_lora_rank": 8})
    narrow = replace(scene.site, environment=project().environment.model_copy(update={"vllm": vllm}))
    wide = lora_bundle(scene.home, 3, rank=32)
    scene.ledger.add_build(wide, GateDecision(passed=True, findings=()), scene.world.clock())
    outcome = scene.release(wide, site=narrow)
    assert outcome.outcome == "refused"
    assert "vLLM cannot serve it" in outcome.reason
    assert "32" in outcome.reason
    assert wide.served_name not in scene.world.models
    assert scene.release(site=narrow).outcome == "live"


def test_what_the_eval_gate_did_not_let_through_is_refused(scene: Scene) -> None:
    unknown = lora_bundle(scene.home, 4)
    assert "never judged by the eval gate" in scene.release(unknown).reason
    finding = GateFinding(suite="x", limit="min_score 0.9", verdict="fail", sentence="gives the answer away")
    scene.ledger.add_build(unknown, GateDecision(passed=False, findings=(finding,)), scene.world.clock())
    outcome = scene.release(unknown)
    assert outcome.outcome == "refused"
    assert "gives the answer away" in outcome.reason


def test_an_adapter_that_vllm_refuses_ends_the_release_with_its_words(scene: Scene) -> None:
    vllm = scene.site.vllm("")
    assert isinstance(vllm, FakeVllm)
    vllm.refuses = "rank 64 is above the maximum"
    outcome = scene.release()
    assert outcome.outcome == "rolled_back"
    assert "rank 64 is above the maximum" in outcome.reason
    assert scene.ledger.quarantined(scene.new.digest) == ""
    assert scene.serves() == {scene.base.variant_name}


def hours(opens: str, closes: str, **more: object) -> RolloutPlan:
    found = ReleaseHours.model_validate({"opens": opens, "closes": closes, **more})
    return PLAN.model_copy(update={"release_hours": found})


def test_a_release_waits_for_its_release_hours_without_holding_the_environment(scene: Scene) -> None:
    scene.plan = hours("15:00", "16:00")  # the world's clock begins at 13:46:40 UTC
    began, held = scene.world.clock(), []

    def sleep(seconds: float) -> None:
        if any("waiting for the release hours" in text for text in scene.said[-1:]):
            held.append(scene.ledger.holder("local"))
            scene.world.change("time", now=scene.world.clock() + seconds)
        else:
            scene.world.sleep(seconds)

    assert scene.release(site=replace(scene.site, sleep=sleep)).outcome == "live"
    assert scene.ledger.releases("local")[0]["started_at"] - began == pytest.approx(4400, abs=1)
    assert set(held) == {None}


def test_hours_that_open_too_late_refuse_and_a_person_may_release_at_any_hour(scene: Scene) -> None:
    scene.plan = hours("10:00", "11:00", wait_at_most_s=3600)
    refused = scene.release()
    assert refused.outcome == "refused"
    assert "--at-any-hour" in refused.reason
    outcome = run_release(project(scene.plan), scene.new, scene.site, at_any_hour=True)
    assert outcome.outcome == "live"


def test_a_release_that_was_left_unfinished_waits_for_no_hours(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    scene.plan = hours("10:00", "11:00")
    assert scene.release().outcome == "live"
    assert not any("release hours" in text for text in scene.said)
