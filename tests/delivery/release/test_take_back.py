"""Which release a rollback means: by its name, or without one the newest, and nothing more once that is taken back."""

import pytest

from delivery.release.state import Phase
from delivery.release.take_back import Meant, PastRelease, live_release, meant


def past(name: str, phase: Phase, bundle: str = "") -> PastRelease:
    return PastRelease(release_id=name, bundle=f"sha256:{bundle or name}", phase=phase)


R1_LIVE = past("r1", "live", "aa11")


def test_without_a_name_the_newest_release_is_meant_under_way_or_live() -> None:
    assert meant([R1_LIVE], "sha256:aa11") == Meant(standing="take_back", release_id="r1")
    for phase in ("preparing", "stage", "watching", "rolling_back"):
        found = meant([past("r2", phase, "bb22"), R1_LIVE], "sha256:aa11")
        assert found == Meant(standing="take_back", release_id="r2")


def test_without_a_name_a_newest_release_that_was_taken_back_is_still_the_one_that_is_meant() -> None:
    history = [past("r2", "rolled_back", "bb22"), R1_LIVE]
    assert meant(history, "sha256:aa11") == Meant(standing="taken_back", release_id="r2")


def test_a_refused_release_served_nobody_and_is_not_meant() -> None:
    assert meant([past("r2", "refused", "bb22"), R1_LIVE], "sha256:aa11").release_id == "r1"
    assert meant([past("r2", "refused", "bb22")], "sha256:base") == Meant(standing="nothing")


@pytest.mark.parametrize("name", ["r1", "aa", "sha256:aa11"])
def test_a_second_step_back_is_asked_for_by_name(name: str) -> None:
    history = [past("r2", "rolled_back", "bb22"), R1_LIVE]
    assert meant(history, "sha256:aa11", name) == Meant(standing="take_back", release_id="r1")


def test_a_name_stays_with_its_release_although_its_bundle_is_live_again() -> None:
    history = [past("r3", "live", "bb22"), past("r2", "rolled_back", "bb22"), R1_LIVE]
    assert meant(history, "sha256:bb22", "r2") == Meant(standing="taken_back", release_id="r2")
    assert meant(history, "sha256:bb22", "bb22") == Meant(standing="take_back", release_id="r3")


def test_what_is_not_live_any_more_is_not_taken_back_by_taking_its_successor_back() -> None:
    history = [past("r2", "live", "bb22"), R1_LIVE]
    assert meant(history, "sha256:bb22", "r1") == Meant(standing="replaced", release_id="r1")


def test_what_is_live_beneath_a_release_under_way_waits_for_that() -> None:
    history = [past("r2", "stage", "bb22"), R1_LIVE]
    assert meant(history, "sha256:aa11", "r1") == Meant(standing="beneath", release_id="r1", above="r2")


def test_a_name_that_no_release_has_or_several_bundles_share_means_nothing() -> None:
    history = [past("r2", "live", "aa22"), R1_LIVE]
    assert meant(history, "sha256:aa22", "cc").standing == "unknown"
    assert meant(history, "sha256:aa22", "aa").standing == "ambiguous"


def test_the_release_behind_a_live_bundle_is_the_newest_that_made_it_live() -> None:
    history = [past("r4", "rolled_back", "aa11"), past("r3", "live", "aa11"), past("r2", "live", "bb22"), R1_LIVE]
    assert live_release(history, "sha256:aa11") == "r3"
    assert live_release(history, "sha256:base") == ""
