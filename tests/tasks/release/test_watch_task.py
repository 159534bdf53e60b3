"""Judging what is live after its release."""

import pytest
from release_scene import Scene, in_canary_of, killed_while

from configs.errors import SlipwayError
from tasks.release.run import watch_live


def test_while_a_release_is_under_way_there_is_no_other_watch(scene: Scene) -> None:
    killed_while(scene, in_canary_of(scene))
    with pytest.raises(SlipwayError, match="under way"):
        watch_live(scene.site, "tutor", 5)


def test_a_watch_of_a_good_release_leaves_it_live(scene: Scene) -> None:
    assert watch_live(scene.site, "tutor", 5) is None  # nothing was released yet
    scene.release()
    outcome = watch_live(scene.site, "tutor", 20, holdback_bp=500)
    assert outcome is not None
    assert outcome.outcome == "live"
    assert scene.serves() == {scene.new.variant_name}


def test_a_watch_takes_back_what_goes_bad(scene: Scene) -> None:
    scene.release()
    scene.breaks(scene.new, 5)
    outcome = watch_live(scene.site, "tutor", 60, holdback_bp=500)
    assert outcome is not None
    assert outcome.outcome == "rolled_back"
    assert scene.serves() == {scene.base.variant_name}


@pytest.mark.parametrize(
    ("duration_s", "holdback_bp", "where"),
    [(60, 20_000, "holdback_bp"), (60, -1, "holdback_bp"), (0, 0, "duration_s"), (float("nan"), 0, "duration_s")],
)
def test_what_would_be_no_watch_is_refused_before_it_is_on_record(
    scene: Scene, duration_s: float, holdback_bp: int, where: str
) -> None:
    scene.release()
    with pytest.raises(SlipwayError) as error:
        watch_live(scene.site, "tutor", duration_s, holdback_bp=holdback_bp)
    assert error.value.where == where
    assert scene.ledger.unfinished("local", "tutor") is None
    outcome = watch_live(scene.site, "tutor", 5)
    assert outcome is not None
    assert outcome.outcome == "live"
