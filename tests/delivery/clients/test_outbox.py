"""The outbox holds what is to be told with what it tells of, lets one process try each message, and loses none."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from release_states import BASE, BEGUN, NEW, at, decided

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.ledger.outbox import CLAIM_S, GIVEN_UP_AFTER_S
from delivery.release.messages import Letter, ReleaseMessage

PLAN = RolloutPlan(
    stages=(Stage(kind="canary", share_bp=500), Stage(kind="full", share_bp=9500)),
    checks=(Check(metric="error_rate", max=0.1),),
)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, empty_ledger: Path) -> Iterator[Ledger]:
    if request.param == "sqlite":
        shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
        found = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", busy_timeout_s=0.05)
    else:
        new: Callable[[], str] = request.getfixturevalue("new_postgres")
        found = Ledger(new(), busy_timeout_s=0.05)
    yield found
    found.close()


def letter(key: str = "r1/rollback", receiver: str = "chat", at: float = 100.0, *, told: bool = False) -> Letter:
    message = ReleaseMessage(key=key, kind="rollback", title="t", text="x", environment="local", route="tutor", at=at)
    return Letter(receiver=receiver, message=message, told=told)


def test_the_same_thing_is_in_it_once_for_each_receiver(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.outbox.add([letter(), letter(receiver="mail"), letter("r1/approval/0.0")])
    found = [(one.receiver, one.message.key) for one in ledger.outbox.waiting("local")]
    assert sorted(found) == [("chat", "r1/approval/0.0"), ("chat", "r1/rollback"), ("mail", "r1/rollback")]
    assert ledger.outbox.waiting("another") == []


def test_who_was_told_already_is_not_told_again(ledger: Ledger) -> None:
    ledger.outbox.add([letter(told=True)])
    ledger.outbox.add([letter()])
    assert ledger.outbox.waiting("local") == []


def test_one_of_two_processes_tries_a_message_and_a_killed_ones_claim_ends(ledger: Ledger) -> None:
    ledger.outbox.add([letter()])
    one = ledger.outbox.due("local", "chat", 100.0)
    assert one is not None
    assert ledger.outbox.claim(one, 100.0)
    assert not ledger.outbox.claim(one, 100.0)
    assert ledger.outbox.due("local", "chat", 100.0 + CLAIM_S - 1) is None
    (waits,) = ledger.outbox.waiting("local")
    assert waits.is_being_tried(101.0)
    again = ledger.outbox.due("local", "chat", 100.0 + CLAIM_S)
    assert again is not None
    assert again.tries == 1
    assert not again.is_being_tried(100.0 + CLAIM_S)


def test_what_failed_is_tried_ever_later_and_not_before_the_receiver_asks(ledger: Ledger) -> None:
    ledger.outbox.add([letter()])
    now, pauses = 100.0, []
    for _ in range(10):
        one = ledger.outbox.due("local", "chat", now)
        assert one is not None
        assert ledger.outbox.claim(one, now)
        ledger.outbox.failed(one, "status 500", now)
        (waits,) = ledger.outbox.waiting("local")
        assert (waits.error, waits.is_being_tried(now)) == ("status 500", False)
        pauses.append(waits.next_try_at - now)
        now = waits.next_try_at
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]
    one = ledger.outbox.due("local", "chat", now)
    assert one is not None
    ledger.outbox.failed(one.model_copy(update={"tries": 0}), "status 429", now, not_before_s=60)
    assert ledger.outbox.due("local", "chat", now + 59) is None


def test_what_is_too_old_is_given_up_and_stays_visible(ledger: Ledger) -> None:
    ledger.outbox.add([letter()])
    late = 100.0 + GIVEN_UP_AFTER_S + 1
    assert ledger.outbox.due("local", "chat", late) is None
    (waits,) = ledger.outbox.waiting("local")
    assert waits.given_up(late)


def test_what_has_arrived_waits_no_more_and_is_never_deleted(ledger: Ledger) -> None:
    ledger.outbox.add([letter()])
    one = ledger.outbox.due("local", "chat", 100.0)
    assert one is not None
    ledger.outbox.arrived(one, 100.5)
    assert ledger.outbox.waiting("local") == []
    with sa.create_engine(ledger.url).connect() as connection, pytest.raises(sa.exc.DBAPIError, match="outbox"):
        connection.execute(sa.text("DELETE FROM outbox"))


def test_a_decision_and_what_is_told_of_it_are_on_record_together_or_not_at_all(ledger: Ledger) -> None:
    ledger.set_base("local", "tutor", BEGUN.stable, BASE, "me", 0.0)
    ledger.acquire("local", "me", 30, 0.0)
    ledger.begin(BEGUN, PLAN, NEW, "me", 30, 0.0)
    state = at("refused", reason="no")
    ledger.record(decided(state), "me", 30, 1.0, letters=[letter("r1/refusal")])
    assert [one.message.key for one in ledger.outbox.waiting("local")] == ["r1/refusal"]
    unknown = state.model_copy(update={"release_id": "nobody"})
    with pytest.raises(Exception, match="nobody"):
        ledger.record(decided(unknown), "me", 30, 2.0, letters=[letter("nobody/refusal")])
    too_long = letter("r1/alert").model_copy(update={"receiver": None})  # its insert fails
    with pytest.raises(Exception, match=r"NULL|null"):
        ledger.record(decided(state.model_copy(update={"reason": "other"})), "me", 30, 3.0, letters=[too_long])
    assert [one.message.key for one in ledger.outbox.waiting("local")] == ["r1/refusal"]
    assert ledger.state("r1").reason == "no"
    assert len(ledger.decisions("r1")) == 1
    assert NEW.digest == ledger.state("r1").candidate.bundle
