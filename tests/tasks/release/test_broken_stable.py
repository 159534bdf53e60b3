"""A stable that cannot be loaded, or fails, is named as such, and there is a way forward over it."""

from pathlib import Path
from typing import Any

import pytest
from release_fakes import PLAN, FakeVllm, project
from release_scene import Scene, in_canary_of, killed_while, when

from configs.checks import Check
from configs.errors import SlipwayError
from delivery.build.bundle import Bundle
from delivery.clients.vllm import VllmError
from tasks.release.broken_stable import over_broken_stable
from tasks.release.outcome import ReleaseOutcome
from tasks.release.rollback import rollback
from tasks.release.run import run_release

ABSOLUTE = PLAN.checks[0]
RELATIVE = Check(metric="latency_typical_s", max_ratio=2, stages=("shadow", "canary"))


def break_stable(scene: Scene) -> None:
    """Its files are gone, and vLLM was restarted since."""
    vllm = scene.site.vllm("any")
    assert isinstance(vllm, FakeVllm)
    load = vllm.load_adapter

    def cannot(name: str, path: Path | str) -> None:
        if name == scene.new.served_name:
            raise VllmError(f"cannot load {name}: no such folder")
        load(name, path)

    vllm.load_adapter = cannot  # type: ignore[method-assign]
    scene.world.restart_vllm()


@pytest.fixture
def broken(scene: Scene) -> Scene:
    assert scene.release().outcome == "live"
    break_stable(scene)
    scene.plan = PLAN.model_copy(update={"checks": (ABSOLUTE, RELATIVE)})
    return scene


def forward(scene: Scene, bundle: Bundle, **more: Any) -> ReleaseOutcome:
    return run_release(project(scene.plan), bundle, scene.site, by="ann", broken_stable="its files are gone", **more)


def test_a_stable_that_cannot_be_loaded_is_named_with_the_way_forward_and_nobody_is_condemned(broken: Scene) -> None:
    second = broken.built(2)
    outcome = broken.release(second)
    assert outcome.outcome == "rolled_back"
    assert f"stable is broken, not the candidate: stable's model {broken.new.served_name}" in outcome.reason
    assert "no such folder" in outcome.reason
    assert "--over-broken-stable" in outcome.reason
    assert broken.ledger.quarantined(second.digest) == ""


def test_a_release_over_a_broken_stable_serves_the_base_meanwhile_and_judges_by_absolute_limits(broken: Scene) -> None:
    second, seen = broken.built(2), []
    when(broken.world, in_canary_of(broken), lambda: seen.append(broken.world.table.routes["tutor"].stable))
    outcome = forward(broken, second)
    assert (outcome.outcome, seen) == ("live", [broken.base.variant_name])
    assert [check.name for check in broken.ledger.plan(outcome.release_id).checks] == [ABSOLUTE.name]
    assert broken.serves() == {second.variant_name}
    assert broken.ledger.quarantined(broken.new.digest) == ""
    done = rollback(broken.site, "tutor", by="ann", reason="no")
    assert done.serves == broken.base.variant_name


def test_a_bad_candidate_over_a_broken_stable_goes_back_to_the_base_and_stays_there(broken: Scene) -> None:
    second = broken.built(2)
    broken.breaks(second, 6)
    assert forward(broken, second).outcome == "rolled_back"
    assert broken.serves() == {broken.base.variant_name}
    pointers = broken.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == broken.base.digest
    assert broken.ledger.quarantined(second.digest)


def test_it_goes_on_where_its_controller_was_killed(broken: Scene) -> None:
    second = broken.built(2)
    release = broken.release
    broken.release = lambda bundle=None, site=None: run_release(  # type: ignore[method-assign]
        project(broken.plan), second, site or broken.site, by="ann", broken_stable="its files are gone"
    )
    killed_while(broken, in_canary_of(broken))
    broken.release = release  # type: ignore[method-assign]
    assert forward(broken, second).outcome == "live"
    assert [past.phase for past in broken.ledger.pasts("local", "tutor")] == ["live", "rolled_back"]


def test_what_the_gate_refused_makes_nobody_give_up_stable(broken: Scene) -> None:
    bad = broken.built(2)
    broken.breaks(bad, 6)
    assert forward(broken, bad).outcome == "rolled_back"
    before = len(broken.ledger.pasts("local", "tutor"))
    assert forward(broken, bad).outcome == "refused"
    assert len(broken.ledger.pasts("local", "tutor")) == before + 1


def test_a_plan_without_absolute_limits_has_nothing_left_to_judge_by() -> None:
    plan = PLAN.model_copy(update={"checks": (RELATIVE,)})
    with pytest.raises(SlipwayError, match=r"nothing to judge by(?s:.*)absolute limit"):
        over_broken_stable(project(plan))


def test_giving_up_stable_needs_a_name_and_a_reason(broken: Scene) -> None:
    with pytest.raises(SlipwayError, match="reason"):
        run_release(project(PLAN), broken.built(2), broken.site, by="ann", broken_stable=" ")
