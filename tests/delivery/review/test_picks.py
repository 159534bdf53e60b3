"""Which requests become items, and why; texts of all others are never read."""

import json
from dataclasses import replace

import pytest

from configs.review import Review
from delivery.review.picks import LoggedRow, Picked, picked, wanted

ALL, NONE = Review(sample_share=1), Review(sample_share=0)
ASKED = json.dumps([{"role": "user", "content": "What is 2 + 2?"}])


def attempt(request_id: str = "q1", **more: object) -> LoggedRow:
    known = LoggedRow(request_id, False, "stable", "served", True, 5.0, user="u", prompt=ASKED, answer="It is 5.")
    return replace(known, **more)  # type: ignore[arg-type]


def feedback(request_id: str = "q1", **more: object) -> LoggedRow:
    return replace(LoggedRow(request_id, True, "stable", "served", True, 9.0), **more)  # type: ignore[arg-type]


def pick(*rows: LoggedRow, rules: Review = NONE) -> Picked:
    return picked(rows, wanted(rows, rules), rules, lambda one, other: float(one == other))


def test_a_complaint_makes_an_item_of_the_answer_that_the_user_saw() -> None:
    rows = (attempt(), attempt("q2"), feedback(rating=-1, comment="wrong"))
    (found,) = pick(*rows).found
    assert (found.request_id, found.origin, found.why) == ("q1", "negative", "the user rated the answer -1")
    assert (found.asked.answer, found.asked.comment, found.user, found.at) == ("It is 5.", "wrong", "u", 5.0)


def test_an_escalation_comes_before_everything_else_and_all_reasons_are_told() -> None:
    (found,) = pick(attempt(broken=("format",)), feedback(rating=-1), feedback(escalated=True), rules=ALL).found
    assert found.origin == "escalated"
    assert found.why == (
        "the user asked for a person; the user rated the answer -1; the answer broke the contract: format; sampled"
    )


def test_praise_and_broken_answers_that_nobody_saw_make_no_item() -> None:
    assert not pick(attempt(), feedback(rating=1), attempt("q2", role="mirror", broken=("format",))).found


def test_two_answers_that_differ_in_shadow_are_one_item_with_both() -> None:
    (found,) = pick(attempt(), attempt(role="mirror", variant="new", answer="It is 4.", at=6.0)).found
    assert (found.origin, found.asked.answer, found.asked.other) == ("disagreement", "It is 5.", "It is 4.")
    assert not pick(attempt(), attempt(role="mirror", variant="new")).found
    (found,) = pick(attempt(), attempt(role="mirror", variant="new", broken=("format",))).found
    assert found.why == "in shadow one of two answers broke the contract: format"


def test_of_a_failed_attempt_and_its_failover_the_answer_counts() -> None:
    failed = attempt(ok=False, answer=None, variant="new")
    (found,) = pick(failed, attempt(role="failover", answer="It is 4."), feedback(rating=-1)).found
    assert found.asked.answer == "It is 4."


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"ok": False}, "not-answered"),
        ({"prompt": None}, "no-text"),
        ({"prompt": ASKED[:20]}, "prompt-cut"),
        ({"prompt": json.dumps([{"role": "assistant", "content": "x"}])}, "not-a-question"),
        ({"prompt": json.dumps([{"role": "user", "content": [{"type": "image_url"}]}])}, "not-text"),
    ],
)
def test_what_cannot_be_reviewed_is_counted_by_its_reason(row: dict[str, object], reason: str) -> None:
    found = pick(attempt(**row), feedback(rating=-1))
    assert (found.found, found.left_out) == ((), {reason: 1})


def test_a_plain_prompt_is_a_users_message() -> None:
    (found,) = pick(attempt(prompt=json.dumps("Go on:")), feedback(rating=-1)).found
    assert found.asked.messages == ({"role": "user", "content": "Go on:"},)


def test_a_larger_sample_has_all_of_a_smaller_one() -> None:
    rows = [attempt(f"q{number}") for number in range(400)]
    few, many = ({one.request_id for one in pick(*rows, rules=Review(sample_share=s)).found} for s in (0.1, 0.3))
    assert few < many
    assert 20 < len(few) < 60 < len(many) < 180
