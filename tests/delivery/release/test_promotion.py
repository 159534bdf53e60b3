"""What one environment serves goes on to the next: the same digest, after its soak, by the next one's gates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.release.promotion import Lived, PromotionGate, promotion

NEW, OLD = "sha256:new", "sha256:old"
DAY = 86_400.0
PASSED = PromotionGate(name="tutor", passed=True, reason="scored 0.9, 0.8 is asked for")
FAILED = PromotionGate(name="safety", passed=False, reason="scored 0.7, 0.8 is asked for")


def before(**more: Any) -> Lived:
    return Lived.model_validate({"environment": "dev", "live": NEW, "since": 0.0} | more)


def after(**more: Any) -> Lived:
    return Lived.model_validate({"environment": "staging", "live": OLD, "since": 0.0} | more)


def test_what_has_lived_long_enough_and_passes_goes_on() -> None:
    found = promotion(before(), after(), DAY, [PASSED], DAY)
    assert (found.standing, found.bundle) == ("promote", NEW)
    assert found.reasons[1] == "tutor: scored 0.9, 0.8 is asked for"


def test_what_has_not_lived_long_enough_waits_and_it_is_said_for_how_long() -> None:
    found = promotion(before(since=1000.0), after(), DAY, [PASSED], 2000.0)
    assert (found.standing, found.left_s) == ("wait", DAY - 1000)
    assert found.reasons == ("it has been live in dev for 1000 s of 86400 s",)


@pytest.mark.parametrize(
    ("first", "second", "gates", "reason"),
    [
        (before(quarantined=(NEW,)), after(), [], "it is quarantined in dev"),
        (before(), after(quarantined=(NEW,)), [], "it is quarantined in staging"),
        (before(), after(taken_back=(NEW,)), [], "it was taken back in staging already"),
        (before(), after(), [PASSED, FAILED], "safety: scored 0.7, 0.8 is asked for"),
        (before(since=None), after(), [], "dev serves what no release brought there"),
        (before(live=""), after(), [], "dev serves nothing yet"),
    ],
)
def test_what_speaks_against_it_refuses_it_however_long_it_lived(
    first: Lived, second: Lived, gates: list[PromotionGate], reason: str
) -> None:
    found = promotion(first, second, 0, gates, 10 * DAY)
    assert (found.standing, reason in found.reasons) == ("refuse", True)


def test_all_reasons_come_at_once() -> None:
    found = promotion(before(quarantined=(NEW,)), after(taken_back=(NEW,)), DAY, [FAILED], 0)
    assert len(found.reasons) == 3


def test_a_release_under_way_on_either_side_is_waited_for() -> None:
    for first, second in ((before(under_way="r1"), after()), (before(), after(under_way="r1"))):
        found = promotion(first, second, 0, [], DAY)
        assert (found.standing, len(found.reasons)) == ("wait", 1)


def test_what_is_there_already_is_nothing_to_do() -> None:
    assert promotion(before(), after(live=NEW), DAY, [FAILED], 0).standing == "nothing_to_do"


@given(
    since=st.none() | st.floats(0, 1e6),
    now=st.floats(0, 2e6),
    soak=st.floats(0, 1e6),
    faults=st.sets(st.sampled_from(["before", "after", "taken", "gate", "under_way"])),
)
def test_nothing_else_than_the_live_digest_goes_on_and_never_with_a_fault(
    since: float | None, now: float, soak: float, faults: set[str]
) -> None:
    first = before(since=since, quarantined=(NEW,) if "before" in faults else ())
    second = after(
        quarantined=(NEW,) if "after" in faults else (),
        taken_back=(NEW,) if "taken" in faults else (),
        under_way="r" if "under_way" in faults else "",
    )
    found = promotion(first, second, soak, [FAILED] if "gate" in faults else [PASSED], now)
    assert found.bundle == NEW
    if found.standing == "promote":
        assert not faults
        assert since is not None
        assert now - since >= soak
