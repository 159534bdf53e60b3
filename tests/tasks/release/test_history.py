"""What was live when, by whom it was decided, and what stood behind one answer: from the ledger alone."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet
from release_fakes import FakeGateway
from release_scene import Scene, in_canary_of, killed_while

from configs.errors import SlipwayError
from delivery.traffic.columns import COLUMNS
from tasks.release.history import (
    behind_request,
    bundle_of,
    decision_again,
    differences,
    live_periods,
    story_of,
)
from tasks.release.rollback import rollback


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """For all tests that only read."""
    scene = Scene(tmp_path_factory.mktemp("scene"))
    assert scene.release().outcome == "live"
    rollback(scene.site, "tutor", by="ann", reason="complaints")
    return scene


def release_of(scene: Scene) -> str:
    return str(scene.ledger.releases("local", "tutor")[0]["id"])


def test_periods_follow_each_other_without_a_gap_and_say_why(scene: Scene) -> None:
    now, before, first = live_periods(scene.ledger, "local", "tutor")
    assert [one.variant for one in (now, before, first)] == [
        scene.base.variant_name,
        scene.new.variant_name,
        scene.base.variant_name,
    ]
    assert (now.until, before.until, first.until) == (None, now.since, before.since)
    assert before.release_id == release_of(scene)
    assert now.why == "rollback asked for by ann: complaints"


def test_another_routes_tables_are_nobodys_period(scene: Scene) -> None:
    assert live_periods(scene.ledger, "local", "other") == []
    assert live_periods(scene.ledger, "elsewhere", "tutor") == []


def test_a_story_has_everybody_who_had_a_part(scene: Scene) -> None:
    found = story_of(scene.ledger, release_of(scene))
    assert found.state.phase == "rolled_back"
    assert [(one["by"], one["reason"]) for one in found.commands] == [("ann", "complaints")]
    assert [one["kind"] for one in found.events] == ["release_begun"]
    assert {one["kind"] for one in found.decisions} == {"decision"}


def test_every_decision_on_record_is_computed_again_the_same(scene: Scene) -> None:
    rows = scene.ledger.decisions(release_of(scene), heartbeats=True)
    again = [decision_again(scene.ledger, release_of(scene), row["id"]) for row in rows]
    assert [one.differences for one in again] == [()] * len(rows)
    assert sum(one.again is not None for one in again) > 5
    assert [one.tick for one in again] == list(range(1, len(rows) + 1))


def test_what_is_not_there_is_said_with_a_cure(scene: Scene) -> None:
    with pytest.raises(SlipwayError, match="knows no release r9"):
        story_of(scene.ledger, "r9")
    with pytest.raises(SlipwayError, match="has no decision 99999"):
        decision_again(scene.ledger, release_of(scene), 99_999)
    with pytest.raises(SlipwayError):
        bundle_of(scene.ledger, scene.home, "sha256:feed")


def test_two_bundles_differ_in_what_was_changed_and_not_in_themselves(scene: Scene) -> None:
    found = {one.field: (one.first, one.second) for one in differences(scene.base, scene.new)}
    assert found["system_prompt"] == ("a long prompt", "a short prompt")
    assert found["adapter.rank"] == ("", "8")
    assert "base_model" not in found
    assert differences(scene.new, scene.new) == []


def test_a_bundle_that_left_the_folder_is_known_from_the_ledger(scene: Scene, tmp_path: Path) -> None:
    assert bundle_of(scene.ledger, tmp_path / "elsewhere", scene.new.digest) == scene.new
    assert bundle_of(scene.ledger, scene.home, scene.new.digest[:20]) == scene.new


def test_a_requests_id_leads_to_the_bundle_in_the_table_of_then(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    killed_while(scene, in_canary_of(scene))
    scene.world.sleep(2)
    records = FakeGateway(scene.world).records(0).records
    of_candidate = next(
        one for one in records if one.epoch.endswith("1-canary") and one.variant == scene.new.variant_name
    )
    (found,) = behind_request(scene.site, of_candidate.request_id)
    assert found.bundle == scene.new
    assert found.release_id == release_of(scene)
    copied = next(one for one in records if one.role == "mirror")
    both = behind_request(scene.site, copied.request_id)
    found_behind = {one.record.role: one.bundle for one in both}
    assert found_behind == {"served": scene.base, "mirror": scene.new}
    before = next(one for one in records if one.epoch.startswith("start"))
    assert behind_request(scene.site, before.request_id)[0].release_id is None
    assert behind_request(scene.site, "never asked") == []


def test_a_traffic_log_knows_what_the_gateway_has_forgotten(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    killed_while(scene, in_canary_of(scene))
    record = json.loads((scene.world.folder / "records.jsonl").read_text().splitlines()[-1])
    record["ended_at"] = record["started_at"] + record.pop("duration_s")
    folder = tmp_path / "environments" / "local" / "gateway" / "traffic"
    folder.mkdir(parents=True)
    known = {column.name for column in COLUMNS}
    row = {name: [value] for name, value in record.items() if name in known} | {"event": ["attempt"]}
    parquet.write_table(pyarrow.table(row), folder / "1.parquet")
    scene.world.restart_gateway()
    (found,) = behind_request(replace(scene.site, home=tmp_path), record["request_id"])
    assert found.source == f"traffic log {folder}"
    assert found.bundle is not None
    assert behind_request(scene.site, "never asked") == []
