"""A person rolls back: what is live, what is under way, and what a killed controller left."""

from dataclasses import replace

import pytest
from release_fakes import site_of
from release_scene import Scene, in_canary_of, killed_while, when

from configs.errors import SlipwayError
from tasks.rollback import rollback


def test_a_finished_release_is_undone_in_one_call(scene: Scene) -> None:
    scene.release()
    done = rollback(scene.site, "tutor", by="ann", reason="users complain")
    assert (done.outcome, done.serves) == ("rolled_back", scene.base.variant_name)
    assert done.to_stable_s is not None
    assert done.to_stable_s < 1
    assert scene.serves() == {scene.base.variant_name}
    pointers = scene.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == scene.base.digest
    assert "users complain" in scene.ledger.quarantined(scene.new.digest)
    assert scene.new.served_name not in scene.world.models


def test_a_second_rollback_finds_nothing_to_do(scene: Scene) -> None:
    scene.release()
    rollback(scene.site, "tutor", by="ann", reason="users complain")
    revision = scene.world.table.revision
    again = rollback(scene.site, "tutor", by="ann", reason="users complain")
    assert again.outcome == "nothing_to_do"
    assert scene.world.table.revision == revision


def test_rollbacks_go_back_through_the_history(scene: Scene) -> None:
    second = scene.built(2)
    scene.release()
    scene.release(second)
    assert scene.serves() == {second.variant_name}
    assert rollback(scene.site, "tutor", by="ann", reason="one back").serves == scene.new.variant_name
    assert scene.new.served_name in scene.world.models
    assert rollback(scene.site, "tutor", by="ann", reason="two back").serves == scene.base.variant_name


def test_a_rollback_to_the_base_skips_the_history(scene: Scene) -> None:
    second = scene.built(2)
    scene.release()
    scene.release(second)
    done = rollback(scene.site, "tutor", by="ann", reason="all of it is bad", to="base")
    assert done.serves == scene.base.variant_name
    assert scene.serves() == {scene.base.variant_name}
    pointers = scene.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == scene.base.digest


def test_a_previous_adapter_that_vllm_forgot_is_loaded_before_its_traffic(scene: Scene) -> None:
    second = scene.built(2)
    scene.release()
    scene.release(second)
    scene.world.restart_vllm()
    rollback(scene.site, "tutor", by="ann", reason="back")
    assert scene.serves() == {scene.new.variant_name}
    assert scene.new.served_name in scene.world.models


def test_a_rollback_during_a_release_is_obeyed_by_its_controller(scene: Scene) -> None:
    other = site_of(scene.world, scene.home, scene.ledger, owner="ann")
    outcomes = []

    def in_canary() -> bool:
        return scene.world.table.routes["tutor"].epoch.endswith("1-canary")

    def ask() -> None:
        busy = replace(other, sleep=lambda seconds: (_ for _ in ()).throw(TimeoutError))
        with pytest.raises(TimeoutError):  # the controller has the lease: the caller would wait for it
            rollback(busy, "tutor", by="ann", reason="stop")
        outcomes.append(scene.serves())

    when(scene.world, in_canary, ask)
    outcome = scene.release()
    assert outcomes == [{scene.base.variant_name}]  # the routing change did not wait for the controller
    assert outcome.outcome == "rolled_back"
    assert "ann: stop" in outcome.reason
    assert scene.serves() == {scene.base.variant_name}


def test_a_rollback_needs_a_name_and_a_reason(scene: Scene) -> None:
    scene.release()
    with pytest.raises(SlipwayError, match="reason"):
        rollback(scene.site, "tutor", by="ann", reason="")


def test_a_rollback_finishes_what_a_killed_controller_left(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    done = rollback(scene.site, "tutor", by="ann", reason="nobody watches it")
    assert (done.outcome, done.serves) == ("rolled_back", scene.base.variant_name)
    assert scene.ledger.unfinished("local", "tutor") is None
