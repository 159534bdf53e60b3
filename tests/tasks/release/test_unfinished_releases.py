"""What the next command does with a release that lost its controller."""

from release_fakes import lora_bundle
from release_scene import Scene, in_canary_of, killed_while

from tasks.release.start import bootstrap


def test_a_bundle_that_is_refused_leaves_an_unfinished_release_alone(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    outcome = scene.release(lora_bundle(scene.home, 3))
    assert (outcome.outcome, outcome.release_id) == ("refused", "")
    assert scene.release().outcome == "live"


def test_a_newer_bundle_supersedes_an_unfinished_release(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    second = scene.built(2)
    outcome = scene.release(second)
    assert outcome.outcome == "live"
    phases = {row["bundle"]: row["phase"] for row in scene.ledger.releases("local")}
    assert phases == {scene.new.digest: "rolled_back", second.digest: "live"}
    assert scene.ledger.quarantined(scene.new.digest) == ""  # it did nothing wrong


def test_an_unfinished_release_of_the_same_bundle_goes_on(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    release_id = scene.ledger.releases("local")[0]["id"]
    outcome = scene.release()
    assert (outcome.release_id, outcome.outcome) == (release_id, "live")


def test_a_start_after_a_crash_restores_what_is_live(scene: Scene) -> None:
    scene.release()
    scene.world.restart_vllm()
    scene.world.change("lost", table=None)
    bootstrap(scene.site, "tutor", scene.base)
    assert scene.serves() == {scene.new.variant_name}
    assert scene.new.served_name in scene.world.models
    assert scene.world.table.revision > 1
