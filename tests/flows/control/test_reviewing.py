"""What a reviewer does in the control room goes by the rules of the queue, and shows texts as they are."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from control_scene import ControlScene
from hypothesis import given
from hypothesis import strategies as st

from delivery.clients.ledger.errors import LedgerError
from delivery.clients.ledger.review import Queue
from delivery.clients.people import Person
from delivery.review.items import AskedAndAnswered, ItemDraft
from flows.control.acts import NotAllowedError
from flows.control.reviewing import Reviews, difference, item_html, overview_html, said_of

RITA = Person(name="rita", roles=frozenset({"reviewer"}))
VERA = Person(name="vera", roles=frozenset({"viewer"}))
QUEUE = Queue(environment="local", route="tutor")


def draft(number: int, answer: str = "It is <b>five</b>.", other: str | None = None) -> ItemDraft:
    asked = AskedAndAnswered(
        messages=({"role": "user", "content": f"What is {number}?"},), answer=answer, other=other, comment="wrong!"
    )
    return ItemDraft(origin="negative", why="one star", asked=asked, request_id=f"q{number}", user="u", at=1.0)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[ControlScene]:
    made = ControlScene(tmp_path)
    made.room.site("tutor").ledger.review.add(QUEUE, [draft(1, other="It is one."), draft(2)], "collector", 2.0)
    yield made
    made.room.close()


def test_a_reviewer_takes_decides_and_gets_the_next(scene: ControlScene) -> None:
    reviews = Reviews(scene.room)
    first = reviews.take(RITA, "tutor", 10.0)
    assert first is not None
    done = reviews.decide(RITA, "tutor", first.id, "reject", "it is wrong", 11.0, "", "sums")
    assert (done.status, said_of(done, 1)) == ("rejected", f"{first.id} is rejected.")
    second = reviews.take(RITA, "tutor", 12.0)
    assert second is not None
    assert second.id != first.id
    assert "rejected</th><td>1</td>" in overview_html(reviews.overview("tutor"))


def test_the_other_answer_becomes_a_rewrite_that_its_taker_cannot_approve(scene: ControlScene) -> None:
    reviews = Reviews(scene.room)
    item = next(one for one in (reviews.take(RITA, "tutor", 10.0), reviews.take(RITA, "tutor", 10.0)) if one)
    done = reviews.decide(RITA, "tutor", item.id, "take the other", "the candidate knows", 11.0, "", "")
    assert done.answer == "It is one."
    assert "to be approved by 1" in said_of(done, 1)
    assert "<del>five" not in item_html(done)
    assert "<ins>one.</ins>" in item_html(done)
    with pytest.raises(LedgerError):
        reviews.decide(RITA, "tutor", item.id, "approve", "mine is good", 12.0, "", "")


def test_who_has_not_the_role_does_nothing(scene: ControlScene) -> None:
    reviews = Reviews(scene.room)
    for act in (
        lambda: reviews.take(VERA, "tutor", 1.0),
        lambda: reviews.give_back(VERA, "tutor", "r-1", 1.0),
        lambda: reviews.decide(VERA, "tutor", "r-1", "approve", "why not", 1.0, "", ""),
    ):
        with pytest.raises(NotAllowedError, match="vera may not review: viewer"):
            act()


def test_what_was_said_is_never_markup(scene: ControlScene) -> None:
    item = Reviews(scene.room).take(RITA, "tutor", 10.0)
    assert item is not None
    assert "<b>" not in item_html(item)
    assert "It is &lt;b&gt;five&lt;/b&gt;." in item_html(item)


@given(st.text(), st.text())
def test_a_difference_holds_both_texts_whole(before: str, after: str) -> None:
    shown = difference(before, after)
    old, new = re.sub(r"<ins>[^<]*</ins>|</?del>", "", shown), re.sub(r"<del>[^<]*</del>|</?ins>", "", shown)
    assert (unescape(old), unescape(new)) == (before, after)


def test_very_long_texts_are_shown_without_looking_for_their_difference() -> None:
    assert difference("a " * 3000, "b " * 3000) == "b " * 3000
