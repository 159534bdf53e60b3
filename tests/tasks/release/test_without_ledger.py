"""A rollback while the ledger cannot be reached: users first, the record when it is back."""

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from away_ledger import AWAY, AwayLedger
from release_fakes import site_of
from release_scene import KilledError, Scene, in_canary_of, killed_while, when

from configs.errors import SlipwayError
from delivery.release.way_back import TakenBack
from tasks.release.left_behind import finish
from tasks.release.rollback import rollback
from tasks.release.rollback_outcome import RollbackOutcome
from tasks.release.start import bootstrap
from tasks.release.way_back import notes, way_back
from tasks.release.without_ledger import take_back_without_ledger


def without_ledger(scene: Scene, release: str = "", **more: Any) -> RollbackOutcome:
    site = scene.site
    asked = {"route": "tutor", "release_id": release, "by": "ann", "reason": "v2 is bad", "at": scene.world.clock()}
    taken = TakenBack.model_validate(asked | {"to": "previous", "quarantine": True} | more)
    return take_back_without_ledger(
        site.environment, site.home, site.gateways, site.vllm, taken, why=AWAY, on_progress=lambda *said: None
    )


@pytest.fixture
def two(scene: Scene) -> Scene:
    assert scene.release().outcome == "live"
    assert scene.release(scene.built(2)).outcome == "live"
    return scene


def test_users_get_the_predecessor_and_the_record_follows_when_the_ledger_is_back(two: Scene) -> None:
    second = two.built(2)
    done = without_ledger(two)
    assert two.serves() == {two.new.variant_name}
    assert (done.outcome, done.serves) == ("under_way", two.new.variant_name)
    for word in ("connection refused", "is noted in", "goes on record when it is back"):
        assert word in done.problem
    assert two.ledger.command(done.release_id) is None
    assert finish(two.site, "tutor") == done.release_id  # the supervisor, when it can reach the ledger again
    assert two.serves() == {two.new.variant_name}
    assert "v2 is bad" in two.ledger.quarantined(second.digest)
    assert notes(two.home, "local") == []
    pointers = two.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == two.new.digest
    assert rollback(two.site, "tutor", by="ann", reason="v2 is bad").outcome == "nothing_to_do"


def test_repeating_it_with_and_without_the_ledger_takes_nothing_else_back(two: Scene) -> None:
    first = without_ledger(two)
    revision = two.world.table.revision
    again = without_ledger(two)
    assert (again.outcome, again.release_id) == ("under_way", first.release_id)
    assert two.world.table.revision == revision
    assert len(notes(two.home, "local")) == 1
    assert without_ledger(two, first.release_id).release_id == first.release_id
    assert rollback(two.site, "tutor", by="bob", reason="v2 is bad").release_id == first.release_id
    assert finish(two.site, "tutor") == ""
    assert without_ledger(two).outcome == "nothing_to_do"
    assert two.serves() == {two.new.variant_name}
    assert two.ledger.quarantined(two.new.digest) == ""
    assert notes(two.home, "local") == []


def test_a_predecessor_that_vllm_forgot_is_loaded_before_its_traffic(two: Scene) -> None:
    two.world.restart_vllm()
    without_ledger(two)
    assert two.serves() == {two.new.variant_name}
    assert two.new.served_name in two.world.models


def test_the_base_can_be_asked_for(two: Scene) -> None:
    done = without_ledger(two, to="base")
    assert done.serves == two.base.variant_name
    assert two.serves() == {two.base.variant_name}
    assert finish(two.site, "tutor") == done.release_id
    pointers = two.ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live.bundle == two.base.digest


def test_a_start_after_it_does_not_bring_the_bundle_back(two: Scene) -> None:
    done = without_ledger(two)
    two.world.restart_vllm()
    bootstrap(two.site, "tutor", two.base)
    assert two.serves() == {two.new.variant_name}
    assert finish(two.site, "tutor") == done.release_id


def test_a_candidate_loses_its_users_and_its_controller_obeys_although_it_cannot_write(scene: Scene) -> None:
    class Away(AwayLedger):
        def command(self, release_id: str) -> Any:
            if self.away:
                raise AWAY
            return super().command(release_id)

    ledger, seen = Away(scene.ledger.url), []
    site = replace(scene.site, ledger=ledger)

    def ask() -> None:
        ledger.away = True
        done = without_ledger(scene)
        seen.append((done.outcome, scene.serves()))
        slept = scene.world.clock()
        when(scene.world, lambda: scene.world.clock() > slept + 8, lambda: setattr(ledger, "away", False))

    sleep = scene.world.sleep

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        scene.world.on_effect("time")
        if ledger.away:
            assert scene.serves() == {scene.base.variant_name}, "the controller brought it back"

    when(scene.world, in_canary_of(scene), ask)
    outcome = scene.release(site=replace(site, sleep=sleeping))
    assert seen == [("under_way", {scene.base.variant_name})]
    assert outcome.outcome == "rolled_back"
    assert "ann: v2 is bad" in outcome.reason
    assert scene.ledger.quarantined(scene.new.digest)


def test_without_a_controller_a_candidate_is_taken_back_by_its_bundles_name_too(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    with pytest.raises(SlipwayError, match="'feed' is not what the gateways serve"):
        without_ledger(scene, "feed")
    done = without_ledger(scene, scene.new.digest[7:15])
    assert scene.serves() == {scene.base.variant_name}
    assert finish(scene.site, "tutor") == done.release_id
    assert scene.ledger.unfinished("local", "tutor") is None


def test_where_neither_table_nor_note_tell_what_was_before_nothing_is_changed(two: Scene) -> None:
    (two.home / "environments" / "local" / "way-back-tutor.json").unlink()
    with pytest.raises(SlipwayError, match=r"no note of it(?s:.*)connection refused"):
        without_ledger(two)
    assert two.serves() != {two.new.variant_name}
    two.world.gateway_up = False
    with pytest.raises(SlipwayError, match="no gateway answers"):
        without_ledger(two)


def test_a_note_about_another_time_is_not_believed(two: Scene) -> None:
    file = two.home / "environments" / "local" / "way-back-tutor.json"
    old = file.read_bytes()
    third = two.built(3)
    assert two.release(third).outcome == "live"
    file.write_bytes(old)  # says what v2 goes back to
    with pytest.raises(SlipwayError, match="nothing was taken back"):
        without_ledger(two)
    assert two.serves() == {third.variant_name}


def test_notes_are_their_owners_only_and_hold_what_the_ledger_says(two: Scene) -> None:
    file = two.home / "environments" / "local" / "way-back-tutor.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    note = way_back(two.home, "local", "tutor")
    assert note is not None
    assert (note.to.name, note.base.name) == (two.new.variant_name, two.base.variant_name)
    rollback(two.site, "tutor", by="ann", reason="bad")
    note = way_back(two.home, "local", "tutor")
    assert note is not None
    assert (note.live.name, note.to.name) == (two.new.variant_name, two.base.variant_name)


def test_a_kill_between_the_record_and_the_end_of_a_note_asks_once_more_of_nothing(
    two: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = without_ledger(two)

    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KilledError):
            finish(two.site, "tutor")
    supervisor = site_of(two.world, two.home, two.ledger, owner="supervisor")
    assert finish(supervisor, "tutor") == done.release_id
    assert finish(supervisor, "tutor") == ""
    assert two.serves() == {two.new.variant_name}
