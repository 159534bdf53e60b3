"""When a release may begin: windows on the clock of one place, heeding that clocks are put forward and back."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.release_hours import DAYS, ReleaseHours
from delivery.release.hours import seconds_until_open

OFFICE = ReleaseHours.model_validate({"days": ["mon", "tue", "wed", "thu", "fri"], "opens": "09:00", "closes": "17:00"})
HOUR_S = 3600.0


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        ("2026-11-30T03:00", 6.0),  # the shipped schedule: Mondays at three in the morning
        ("2026-11-30T09:00", 0.0),
        ("2026-11-30T16:59", 0.0),
        ("2026-11-30T17:00", 16.0),
        ("2026-12-04T18:00", 63.0),  # Friday evening: until Monday
    ],
)
def test_it_waits_until_the_next_window(now: str, hours: float) -> None:
    assert seconds_until_open(OFFICE, at(now)) == hours * HOUR_S


def test_without_release_hours_it_never_waits() -> None:
    assert seconds_until_open(None, at("2026-11-29T03:00")) == 0


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    night = ReleaseHours.model_validate({"days": ["fri"], "opens": "22:00", "closes": "04:00"})
    assert seconds_until_open(night, at("2026-12-05T03:59")) == 0  # Saturday
    assert seconds_until_open(night, at("2026-12-04T03:00")) == 19 * HOUR_S


def test_a_named_place_has_its_own_clock_also_when_it_is_put_forward() -> None:
    berlin = ReleaseHours.model_validate({"timezone": "Europe/Berlin", "opens": "09:00", "closes": "10:00"})
    assert seconds_until_open(berlin, at("2026-11-30T08:30")) == 0  # 09:30 there
    night_before = at("2027-03-27T21:00", "Europe/Berlin")
    assert seconds_until_open(berlin, night_before) == 11 * HOUR_S  # one hour of that night is left out


@given(
    now=st.floats(0, 4e9),
    opens=st.times(timezones=st.none()),
    closes=st.times(timezones=st.none()),
    days=st.sets(st.sampled_from(DAYS), min_size=1),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_the_wait_ends_within_eight_days_and_ends_open(
    now: float, opens: object, closes: object, days: set[str], zone: str
) -> None:
    hours = ReleaseHours.model_validate({"timezone": zone, "days": sorted(days), "opens": opens, "closes": closes})
    wait_s = seconds_until_open(hours, now)
    assert 0 <= wait_s <= 8 * 86_400
    opened = datetime.fromtimestamp(now + wait_s, UTC).astimezone(ZoneInfo(zone))
    assert wait_s == 0 or DAYS[opened.weekday()] in days


def test_a_timezone_that_does_not_exist_is_refused_with_examples() -> None:
    with pytest.raises(ValidationError, match=r"no such timezone: 'Mars/Olympus' -> e\.g\. UTC"):
        ReleaseHours.model_validate({"timezone": "Mars/Olympus", "opens": "09:00", "closes": "17:00"})
