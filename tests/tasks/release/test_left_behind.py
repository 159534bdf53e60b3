"""A rollback whose own process was killed is finished by whoever looks."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from release_fakes import World, base_bundle, lora_bundle, site_of
from release_scene import KilledError, Noticed, Scene, bad, killed_after, taken_back_by_hand, taken_back_in_the_middle

from delivery.build.bundle import Bundle
from delivery.clients.ledger.ledger import Ledger
from delivery.release.state import Decision
from tasks.release.left_behind import finish, left_behind
from tasks.release.run import watch_live
from tasks.release.site import Site, is_dead, own_name

pytestmark = pytest.mark.live


def test_a_rollback_that_lost_its_controller_before_the_routing_change_is_noticed_and_done(scene: Scene) -> None:
    scene.release()
    scene.breaks(scene.new, 4)

    class Killed(Noticed):
        """Its controller dies with the way back on record and nothing of it applied."""

        def record(self, decision: Decision, *arguments: Any, **more: Any) -> int:
            number = super().record(decision, *arguments, **more)
            if decision.state.phase == "rolling_back":
                raise KilledError
            return number

    dying = Killed(scene.ledger.url)
    with pytest.raises(KilledError):
        watch_live(replace(scene.site, ledger=dying, owner="killed"), "tutor", 60, holdback_bp=500)
    scene.ledger.acquire("local", "killed@elsewhere:1:2:3", 30, scene.world.clock())  # a real kill keeps it
    scene.world.sleep(20)
    assert scene.world.table.routes["tutor"].stable == scene.new.variant_name
    assert left_behind(scene.site, "tutor") is None  # it may yet come
    assert finish(scene.site, "tutor") == ""
    scene.world.sleep(20)
    lost = left_behind(scene.site, "tutor")
    assert lost is not None
    assert finish(scene.site, "tutor") == lost.release_id
    assert_taken_back(scene.site, scene.world, scene.base, scene.new)


def assert_taken_back(site: Site, world: World, base: Bundle, new: Bundle) -> None:
    """Users are on the base alone, the candidate is unloaded and quarantined, the ledger is closed."""
    assert set(world.table.routes["tutor"].variants) == {base.variant_name}
    assert new.served_name not in world.models
    assert site.ledger.unfinished("local", "tutor") is None
    assert site.ledger.releases("local")[-1]["phase"] == "rolled_back"
    assert site.ledger.quarantined(new.digest)
    pointers = site.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == base.digest
    assert left_behind(site, "tutor") is None
    holder = site.ledger.holder("local")
    assert holder is None or is_dead(holder.owner)  # killed after its last word


def of_the_dead(place: Path) -> tuple[Site, World]:
    """What the supervisor finds: nothing was started again."""
    world = World(place / "world")
    return site_of(world, place, Ledger(f"sqlite:///{place}/ledger.sqlite"), owner=own_name()), world


@pytest.mark.parametrize("begin", [taken_back_by_hand, taken_back_in_the_middle], ids=lambda f: f.__name__)
def test_after_whatever_effect_a_rollback_by_hand_is_killed_the_supervisor_takes_it_to_its_end(
    home: Path, tmp_path_factory: pytest.TempPathFactory, begin: Callable[[Scene], Callable[[], object]]
) -> None:
    for effect in range(1, 30):
        place = tmp_path_factory.mktemp("killed")
        shutil.copy(home / "ledger.sqlite", place)
        was_killed = killed_after(place, effect, begin)
        site, world = of_the_dead(place)
        if was_killed:
            finish(site, "tutor")
        assert_taken_back(site, world, base_bundle(), lora_bundle(place, 1))
        assert world.read()["failed_users"] == 0
        if not was_killed:
            assert effect > 4
            return
    raise AssertionError("it never ended")


def test_a_controllers_own_rollback_is_finished_from_its_first_record_on(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    finished = 0
    for effect in range(1, 40):
        place = tmp_path_factory.mktemp("killed")
        shutil.copy(home / "ledger.sqlite", place)
        was_killed = killed_after(place, effect, bad)
        site, world = of_the_dead(place)
        if was_killed and not finish(site, "tutor"):
            phase = site.ledger.releases("local")[-1]["phase"]
            assert phase in ("preparing", "stage", "rolled_back")  # not begun yet, or complete
            continue
        finished += was_killed
        assert_taken_back(site, world, base_bundle(), lora_bundle(place, 1))
        if not was_killed:
            assert finished >= 2
            return
    raise AssertionError("it never ended")


def test_a_new_release_finishes_a_rollback_that_was_only_asked_for(scene: Scene) -> None:
    first = scene.release()
    scene.ledger.add_command(first.release_id, "rollback", "ann", "complaints", scene.world.clock())
    assert scene.release(scene.built(2)).outcome == "live"
    phases = {row["id"]: row["phase"] for row in scene.ledger.releases("local")}
    assert phases.pop(first.release_id) == "rolled_back"
    assert list(phases.values()) == ["live"]
    assert "complaints" in scene.ledger.quarantined(scene.new.digest)


def test_a_live_release_of_which_nothing_was_asked_is_left_alone(scene: Scene) -> None:
    release_id = scene.release().release_id
    scene.ledger.add_command(release_id, "cancel", "bob", "too late: it is live", scene.world.clock())
    assert left_behind(scene.site, "tutor") is None
    assert finish(scene.site, "tutor") == ""
    assert scene.serves() == {scene.new.variant_name}
