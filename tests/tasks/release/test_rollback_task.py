"""A person rolls back: what is live, what is under way, and what a killed controller left."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from release_fakes import site_of
from release_scene import Scene, in_canary_of, killed_while, when

from configs.errors import SlipwayError
from delivery.clients.ledger.ledger import Ledger, LedgerError
from tasks.release.rollback import rollback


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
    done = rollback(scene.site, "tutor", by="ann", reason="two back", release=scene.new.digest[7:13])
    assert done.serves == scene.base.variant_name


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


class Full(Ledger):
    """Can be read only, until there is room again."""

    full = True

    def _write(self) -> Any:
        if self.full:
            raise LedgerError("the ledger cannot be used: database or disk is full", where=self.url)
        return super()._write()


def live(scene: Scene) -> None:
    assert scene.release().outcome == "live"


def canary_left_alone(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))


@pytest.mark.parametrize("begin", [live, canary_left_alone], ids=lambda f: f.__name__)
def test_with_a_full_disk_users_are_brought_back_first_and_it_is_said_that_nothing_is_on_record(
    scene: Scene, begin: Callable[[Scene], None]
) -> None:
    begin(scene)
    ledger = Full(scene.ledger.url)
    site = replace(scene.site, ledger=ledger, owner="ann")
    said: list[str] = []
    done = rollback(site, "tutor", by="ann", reason="stop", on_progress=lambda done, total, text: said.append(text))
    assert scene.serves() == {scene.base.variant_name}
    assert done.outcome == "under_way"
    assert done.to_stable_s is not None
    for word in ("NOT on record", "disk is full", "the same command again"):
        assert word in done.problem
        assert word in said[-1]
    assert f"all traffic of tutor is on {scene.base.variant_name}" in done.render()
    assert scene.ledger.quarantined(scene.new.digest) == ""
    revision = scene.world.table.revision
    ledger.full = False
    assert rollback(site, "tutor", by="ann", reason="stop").outcome == "rolled_back"
    assert "stop" in scene.ledger.quarantined(scene.new.digest)
    newest = scene.ledger.newest_table("local")
    assert newest is not None
    assert newest.revision == revision == scene.world.table.revision  # nothing moved, and now it is on record
    assert scene.world.read()["failed_users"] == 0


def test_a_ledger_that_fills_up_in_between_leaves_users_on_stable_and_the_request_on_record(scene: Scene) -> None:
    live(scene)

    class FillsUp(Full):
        """Has room for the request and the table."""

        full = False

        def add_table(self, *arguments: Any, **more: Any) -> None:
            super().add_table(*arguments, **more)
            self.full = True

    done = rollback(replace(scene.site, ledger=FillsUp(scene.ledger.url)), "tutor", by="ann", reason="stop")
    assert done.outcome == "under_way"
    assert "on record, but cannot be finished" in done.problem
    assert scene.serves() == {scene.base.variant_name}


def test_users_that_could_not_be_moved_are_not_said_to_be_served_by_stable(scene: Scene) -> None:
    live(scene)
    scene.ledger.acquire("local", "bob@elsewhere:1:2:3", 1e6, scene.world.clock())  # a controller that hangs
    scene.world.gateway_up = False
    done = rollback(scene.site, "tutor", by="ann", reason="stop")
    assert (done.outcome, done.to_stable_s) == ("under_way", None)
    assert "could NOT be moved" in done.problem
    assert "serves route" not in done.render()


def test_a_controller_that_has_yet_to_finish_is_said(scene: Scene) -> None:
    live(scene)
    scene.ledger.acquire("local", "bob@elsewhere:1:2:3", 1e6, scene.world.clock())
    done = rollback(scene.site, "tutor", by="ann", reason="stop")
    assert done.outcome == "under_way"
    assert "its controller has yet to finish" in done.problem
    assert scene.serves() == {scene.base.variant_name}


def test_a_disk_without_a_byte_left_stops_no_rollback(tmp_path: Path, small_disk: Path, empty_ledger: Path) -> None:
    url = f"sqlite:///{small_disk}/ledger.sqlite"
    (small_disk / "ledger.sqlite").write_bytes(empty_ledger.read_bytes())
    scene = Scene(tmp_path, url=url)
    live(scene)
    scene.ledger.close()
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(bytes(9_000_000))
    with closing(Ledger(url)) as ledger:
        done = rollback(replace(scene.site, ledger=ledger), "tutor", by="ann", reason="stop")
    assert done.outcome == "under_way"
    assert "NOT on record" in done.problem
    assert scene.serves() == {scene.base.variant_name}
    (small_disk / "filler").unlink()
    with closing(Ledger(url)) as ledger:
        done = rollback(replace(scene.site, ledger=ledger), "tutor", by="ann", reason="stop")
    assert done.outcome == "rolled_back"
