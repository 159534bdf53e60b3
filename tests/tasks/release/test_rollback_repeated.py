"""A rollback that is repeated - by a second person, a retry, or as its message advises - takes nothing else back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from release_fakes import PLAN
from release_scene import Scene, killed_while

from configs.errors import SlipwayError
from delivery.clients.ledger.ledger import Ledger, LedgerError
from tasks.release.left_behind import finish
from tasks.release.quarantine import lift_quarantine
from tasks.release.rollback import rollback
from tasks.release.rollback_outcome import RollbackOutcome


@pytest.fixture
def two(scene: Scene) -> Scene:
    """base -> v1 -> v2, all good until somebody complains of v2."""
    assert scene.release().outcome == "live"
    assert scene.release(scene.built(2)).outcome == "live"
    return scene


def taken_back(scene: Scene, by: str = "ann", **more: Any) -> RollbackOutcome:
    return rollback(scene.site, "tutor", by=by, reason="v2 gives results away", **more)


def test_two_people_who_roll_back_the_same_release_end_with_it_taken_back_once(two: Scene) -> None:
    first, second = taken_back(two, "ann"), taken_back(two, "bob")
    assert (first.outcome, second.outcome) == ("rolled_back", "nothing_to_do")
    assert second.release_id == first.release_id
    assert "by ann: rollback asked for by ann: v2 gives results away" in second.reason
    assert two.serves() == {two.new.variant_name}
    assert two.ledger.quarantined(two.new.digest) == ""
    v1 = second.behind
    assert f"slipway rollback {v1} --reason" in second.render()
    assert taken_back(two, release=v1).serves == two.base.variant_name
    assert taken_back(two, release=v1).outcome == "nothing_to_do"


def test_the_command_that_is_printed_for_a_repetition_stays_with_its_release(two: Scene) -> None:
    first = taken_back(two)
    assert f"slipway rollback {first.release_id} --reason 'v2 gives results away'" in first.render(
        asked="v2 gives results away"
    )
    second = two.built(2)
    lift_quarantine(two.ledger, two.home, second.digest, by="bob", reason="mended", now=two.world.clock())
    assert two.release(second).outcome == "live"
    assert taken_back(two, release=first.release_id).outcome == "nothing_to_do"
    assert two.serves() == {second.variant_name}


def test_what_the_message_advises_takes_nothing_else_back_when_the_supervisor_was_quicker(two: Scene) -> None:
    class Away(Ledger):
        """Cannot be read once the request and the table are on record."""

        away = False

        def add_table(self, *arguments: Any, **more: Any) -> None:
            super().add_table(*arguments, **more)
            self.away = True

        def plan(self, release_id: str) -> Any:
            if self.away:
                raise LedgerError("the ledger cannot be read", where=self.url)
            return super().plan(release_id)

    told = rollback(replace(two.site, ledger=Away(two.ledger.url)), "tutor", by="ann", reason="v2 is bad")
    assert told.outcome == "under_way"
    assert "give the same command again" in told.problem
    assert finish(two.site, "tutor") == told.release_id
    again = rollback(two.site, "tutor", by="ann", reason="v2 is bad")
    assert again.outcome == "nothing_to_do"
    assert two.serves() == {two.new.variant_name}
    assert two.ledger.quarantined(two.new.digest) == ""


def test_a_second_caller_who_was_stopped_in_the_middle_disturbs_nothing_that_came_since(two: Scene) -> None:
    """He read that v2 is live, slept while it was taken back and v3 released, and goes on."""
    third = two.built(3)

    class Sleeps(Ledger):
        """Wakes up after everything."""

        def add_command(self, *arguments: Any, **more: Any) -> None:
            super().add_command(*arguments, **more)
            taken_back(two, "bob")
            assert two.release(third).outcome == "live"

    late = rollback(replace(two.site, ledger=Sleeps(two.ledger.url)), "tutor", by="ann", reason="v2 is bad")
    assert late.outcome == "rolled_back"
    assert two.serves() == {third.variant_name}
    assert two.ledger.quarantined(third.digest) == two.ledger.quarantined(two.new.digest) == ""


def test_a_release_that_slipway_took_back_by_itself_makes_a_nameless_rollback_unclear_not_a_second_step(
    scene: Scene,
) -> None:
    assert scene.release().outcome == "live"
    second = scene.built(2)
    scene.breaks(second, 4)
    assert scene.release(second).outcome == "rolled_back"
    found = taken_back(scene)
    assert (found.outcome, found.is_done) == ("unclear", False)
    assert "nothing was changed" in found.reason
    assert f"slipway rollback {found.behind}" in found.render()
    assert scene.serves() == {scene.new.variant_name}
    assert taken_back(scene, release=found.behind).outcome == "rolled_back"


def test_the_base_is_not_reached_by_a_second_nameless_rollback_either(two: Scene) -> None:
    taken_back(two)
    found = taken_back(two, to="base")
    assert found.outcome == "unclear"
    assert two.serves() == {two.new.variant_name}
    assert taken_back(two, to="base", release=found.behind).serves == two.base.variant_name
    assert taken_back(two, to="base").outcome == "nothing_to_do"


def test_names_that_mean_nothing_are_refused_with_the_newest_releases(two: Scene) -> None:
    with pytest.raises(SlipwayError, match=r"no release 'feed'(?s:.*)the newest are tutor-"):
        taken_back(two, release="feed")
    with pytest.raises(SlipwayError, match="base of route tutor"):
        taken_back(two, release=two.base.digest)


def test_what_is_live_beneath_a_release_under_way_is_taken_back_after_that(two: Scene) -> None:
    live = two.ledger.pasts("local", "tutor")[0].release_id
    third = two.built(3)
    killed_while(two, lambda: two.world.table.routes["tutor"].epoch.endswith("1-canary"), third)
    with pytest.raises(SlipwayError, match="is under way over it"):
        taken_back(two, release=live)
    assert taken_back(two).outcome == "rolled_back"
    assert taken_back(two, release=live).serves == two.new.variant_name


def test_a_person_can_take_a_bundle_back_without_ruling_it_out(scene: Scene) -> None:
    assert scene.release().outcome == "live"
    assert taken_back(scene, quarantine=False).outcome == "rolled_back"
    assert scene.ledger.quarantined(scene.new.digest) == ""
    assert scene.release().outcome == "live"


def test_commands_of_an_older_ledger_rule_their_bundle_out(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.plan = PLAN
    release_id = scene.release().release_id
    with scene.ledger._write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO commands (release_id, kind, by, reason, at) VALUES (?, 'rollback', 'ann', 'bad', 1)",
            (release_id,),
        )
    command = scene.ledger.command(release_id)
    assert command is not None
    assert command.quarantine
