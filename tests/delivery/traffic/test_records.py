"""A field of a record is spelled once: whoever shows, writes, merges or replays records has all of them."""

import re
from dataclasses import replace

import pytest
from pydantic import ValidationError
from traffic_of import record

from delivery.gateway.records.attempts import Attempt, as_dict
from delivery.gateway.workers.merged_records import MergedRecords
from delivery.traffic.columns import COLUMNS
from delivery.traffic.records import Assigned, Feedback, InFlight, Record, checked, names, part

LOG_ALONE = {"event", "ended_at", "arm", "bundle", "prompt", "answer", "comment"}
NOT_IN_THE_LOG = {"seq", "duration_s", "verdicts", "at"}


def test_the_columns_of_the_log_are_the_fields_of_records_and_feedback_and_what_only_the_log_has() -> None:
    held = {*names(Record), *names(Feedback)} - NOT_IN_THE_LOG
    assert {column.name for column in COLUMNS} == held | LOG_ALONE
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_an_attempt_in_the_gateway_has_every_field_of_a_record() -> None:
    assert set(names(Record)) <= set(names(Attempt))
    assert set(names(Assigned)) < set(names(InFlight)) < set(names(Record))


def test_a_record_is_the_same_after_its_way_over_a_page_and_over_a_merged_one() -> None:
    one = record(7, streamed=True, verdicts={"format": True}, user_ok=False)
    shown = as_dict(names(Record))(one)
    assert checked(Record, shown) == one
    merged = MergedRecords(10, "boot")
    merged.began(1, 0.0)
    page = {"dropped": 0, "records": [shown], "feedback": [], "in_flight": [], "now": 1.0, "last_seq": 7}
    assert merged.add(1, page) == [replace(one, seq=1)]


def test_an_unknown_field_and_a_wrong_value_are_refused() -> None:
    shown = as_dict(names(Record))(record(1))
    for wrong in ({"colour": "red"}, {"role": "king"}, {"duration_s": float("nan")}):
        with pytest.raises(ValidationError, match=re.escape(next(iter(wrong)))):
            checked(Record, shown | wrong)


def test_a_part_takes_its_fields_from_the_whole() -> None:
    assert part(InFlight, record(1), ttft_s=None).started_at == record(1).started_at


def test_attempts_are_equal_to_themselves_alone() -> None:
    """They are kept in sets while they last."""
    fields = {name: getattr(record(1), name) for name in names(Record)}
    one, other = (Attempt(**fields, began=0.0) for _ in range(2))
    assert one != other
    assert len({one, other, one}) == 2
