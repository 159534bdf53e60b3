"""A bundle that a rollback ruled out is released again only when a named person says so."""

import json

import pytest
from release_scene import Scene

from configs.errors import SlipwayError
from tasks.release.quarantine import lift_quarantine
from tasks.release.rollback import rollback


def lifted(scene: Scene, reference: str, by: str = "ann", reason: str = "the network was to blame") -> str:
    now = scene.world.clock()
    return lift_quarantine(scene.ledger, scene.home, reference, by=by, reason=reason, now=now)


def taken_back(scene: Scene) -> str:
    assert scene.release().outcome == "live"
    rollback(scene.site, "tutor", by="bob", reason="users complain")
    return scene.new.digest


def test_a_quarantined_bundle_is_refused_with_the_command_that_lifts_it_and_released_after_that(scene: Scene) -> None:
    digest = taken_back(scene)
    refused = scene.release()
    assert refused.outcome == "refused"
    assert f"slipway lift-quarantine {digest.removeprefix('sha256:')[:12]} --reason" in refused.reason
    said = lifted(scene, digest.removeprefix("sha256:")[:6])
    assert "may be released again" in said
    assert "users complain" in said
    assert scene.release().outcome == "live"


def test_who_lifted_it_and_why_is_in_the_audit(scene: Scene) -> None:
    digest = taken_back(scene)
    lifted(scene, digest)
    rows = [json.loads(line) for line in scene.ledger.export()]
    found = [line["row"] for line in rows if line["table"] == "quarantine"]
    assert [(row["bundle"], row["lifted"], row["by"]) for row in found] == [
        (digest, False, "bob"),
        (digest, True, "ann"),
    ]
    assert found[-1]["reason"] == "the network was to blame"


def test_only_a_quarantined_bundle_that_exists_can_be_let_out_and_only_by_somebody_with_a_reason(scene: Scene) -> None:
    with pytest.raises(SlipwayError, match="is not quarantined"):
        lifted(scene, scene.new.digest)
    with pytest.raises(SlipwayError, match="feedbeef"):
        lifted(scene, "feedbeef")
    digest = taken_back(scene)
    with pytest.raises(SlipwayError, match="reason"):
        lifted(scene, digest, reason=" ")
    assert scene.ledger.quarantined(digest)


def test_a_bundle_that_goes_wrong_again_is_quarantined_again(scene: Scene) -> None:
    digest = taken_back(scene)
    lifted(scene, digest)
    scene.breaks(scene.new, 4)
    assert scene.release().outcome == "rolled_back"
    assert scene.ledger.quarantined(digest)
