"""Messages reach real servers, in their order, once; a server that hangs delays nobody."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from receivers import Hooks

from configs.environment import Environment
from configs.errors import SlipwayError
from configs.notifications import Notifications, Secret, Slack, Webhook
from delivery.clients.ledger.ledger import Ledger, LedgerError
from delivery.clients.processes.ports import free_ports
from delivery.clients.receivers.webhook import TIMEOUT_S
from delivery.release.messages import ReleaseMessage, letters
from tasks.notify.courier import Courier, delivering
from tasks.notify.deliver import deliver_waiting, require_receivers, send_test
from tasks.notify.direct import Direct
from tasks.notify.receivers import senders


@pytest.fixture
def ledger(tmp_path: Path, empty_ledger: Path) -> Ledger:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    return Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


def message(key: str, at: float | None = None) -> ReleaseMessage:
    now = time.time() if at is None else at
    return ReleaseMessage(key=key, kind="alert", title="t", text="x", environment="local", route="tutor", at=now)


def hook(url: str) -> Webhook:
    return Webhook(kind="webhook", url=url)


def post(ledger: Ledger, receivers: Notifications, *messages: ReleaseMessage) -> None:
    ledger.outbox.add(letters(receivers, messages))


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_block_posts_has_arrived_when_it_ends_in_its_order_and_once(ledger: Ledger) -> None:
    with Hooks() as hooks:
        receivers: Notifications = {"pager": hook(hooks.url)}
        environment = Environment(notifications=receivers)
        with delivering(environment, ledger):
            post(ledger, receivers, message("a", time.time() - 2), message("b", time.time() - 1))
        with delivering(environment, ledger):
            post(ledger, receivers, message("a"), message("c"))
        assert hooks.keys == ["a", "b", "c"]
        assert [heads["idempotency-key"] for _, heads, _ in hooks.got] == ["a", "b", "c"]
    assert ledger.outbox.waiting("local") == []


def test_without_receivers_there_is_no_thread_and_no_row(ledger: Ledger) -> None:
    before = threading.active_count()
    with delivering(Environment(), ledger):
        assert threading.active_count() == before
        post(ledger, {}, message("a"))
    assert ledger.outbox.waiting("local") == []


def test_one_that_hangs_delays_neither_the_others_nor_who_stops(ledger: Ledger) -> None:
    with Hooks() as good, Hooks() as stuck:
        stuck.hangs = True
        receivers: Notifications = {"stuck": hook(stuck.url), "good": hook(good.url)}
        post(ledger, receivers, message("a"), message("b"))
        courier = Courier("local", ledger, senders(receivers))
        courier.start()
        assert stuck.asked.wait(120)
        until(lambda: good.keys == ["a", "b"])
        began = time.monotonic()
        courier.stop(flush_s=0.1)
        assert time.monotonic() - began < TIMEOUT_S - 1  # the try that hangs ends by itself a moment later
        assert [one.receiver for one in ledger.outbox.waiting("local")] == ["stuck", "stuck"]


def test_a_block_that_fails_is_not_held_up_by_a_receiver_that_hangs(ledger: Ledger) -> None:
    with Hooks() as stuck:
        stuck.hangs = True
        receivers: Notifications = {"stuck": hook(stuck.url)}
        post(ledger, receivers, message("a"))
        failed_at = []

        def fail() -> None:
            with delivering(Environment(notifications=receivers), ledger):
                assert stuck.asked.wait(120)
                failed_at.append(time.monotonic())
                raise LedgerError("the ledger cannot be used")

        with pytest.raises(LedgerError):
            fail()
        assert time.monotonic() - failed_at[0] < TIMEOUT_S - 1  # the try that hangs ends by itself a moment later


def test_what_a_receiver_refuses_is_tried_again_and_said(ledger: Ledger) -> None:
    clock = [1000.0]
    with Hooks() as hooks:
        receivers: Notifications = {"pager": hook(hooks.url)}
        post(ledger, receivers, message("a", 1000.0))
        said: list[str] = []
        courier = Courier("local", ledger, senders(receivers), said.append, lambda: clock[0])
        hooks.status, hooks.says = 503, "maintenance"
        assert courier.deliver_one("pager")
        assert not courier.deliver_one("pager"), "it is not due yet"
        assert said == ["pager was not told, and is told later: status 503: maintenance"]
        (waits,) = ledger.outbox.waiting("local")
        assert waits.error == "status 503: maintenance"
        hooks.status, clock[0] = 200, 1005.0
        assert courier.deliver_one("pager")
        assert hooks.keys == ["a"]
    assert ledger.outbox.waiting("local") == []


def test_two_couriers_of_one_outbox_tell_everything_once(ledger: Ledger) -> None:
    with Hooks() as hooks:
        receivers: Notifications = {"pager": hook(hooks.url)}
        post(ledger, receivers, *(message(f"m{number}") for number in range(20)))
        couriers = [Courier("local", Ledger(ledger.url), senders(receivers)) for _ in range(3)]
        for courier in couriers:
            courier.start()
        for courier in couriers:
            courier.stop(20)
        assert sorted(hooks.keys) == sorted({f"m{number}" for number in range(20)})


def test_a_secret_that_is_not_set_fails_its_receiver_alone(ledger: Ledger) -> None:
    with Hooks() as hooks:
        receivers: Notifications = {
            "chat": Slack(kind="slack", url=Secret(env="SLIPWAY_TEST_CHAT_THAT_IS_NOT_SET")),
            "pager": hook(hooks.url),
        }
        with delivering(Environment(notifications=receivers), ledger):
            post(ledger, receivers, message("a"))
        assert hooks.keys == ["a"]
    (waits,) = ledger.outbox.waiting("local")
    assert waits.error == "SLIPWAY_TEST_CHAT_THAT_IS_NOT_SET is not set"


def test_a_ledger_that_is_away_ends_no_courier(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(Ledger):
        away = True

        def _read(self):  # type: ignore[no-untyped-def]
            if self.away:
                raise LedgerError("the ledger cannot be used: connection refused")
            return super()._read()

    with Hooks() as hooks:
        receivers: Notifications = {"pager": hook(hooks.url)}
        post(ledger, receivers, message("a"))
        away, said = Away(ledger.url), []
        courier = Courier("local", away, senders(receivers), said.append)
        courier.start()
        until(lambda: bool(said))
        away.away = False
        until(lambda: hooks.keys == ["a"])
        courier.stop()
    assert said == ["messages to pager wait: the ledger cannot be used: connection refused"]


def test_a_test_message_reaches_everybody_and_says_what_each_answered() -> None:
    with Hooks() as good, Hooks() as bad:
        bad.status, bad.says = 404, "no_team"
        receivers: Notifications = {
            "good": Webhook(kind="webhook", url=good.url, tell=("live",)),
            "bad": hook(bad.url),
            "away": hook(f"http://127.0.0.1:{free_ports(1)[0]}"),
        }
        environment = Environment(notifications=receivers)
        found = {one.receiver: one for one in send_test(environment, "tutor", [], "ann")}
        assert found["good"].said == "status 200: ok"
        assert good.got[0][2]["text"] == "ann asked for this message. Nothing has happened."
        assert not found["bad"].ok
        assert "status 404: no_team" in str(found["bad"].said)
        assert "cannot be reached" in str(found["away"].said)
        assert [one.receiver for one in send_test(environment, "tutor", ["good"], "ann")] == ["good"]
    with pytest.raises(SlipwayError, match="no receiver is called who"):
        require_receivers(environment, ["who"])
    with pytest.raises(SlipwayError, match="nobody is to be told"):
        require_receivers(Environment())


def test_a_person_can_have_everything_tried_at_once_that_waits(ledger: Ledger) -> None:
    with Hooks() as hooks:
        receivers: Notifications = {"pager": hook(hooks.url)}
        environment = Environment(notifications=receivers)
        post(ledger, receivers, message("a"), message("b"))
        courier = Courier("local", ledger, senders(receivers))
        hooks.status = 500
        assert courier.deliver_one("pager")
        hooks.status = 200
        found = deliver_waiting(environment, ledger, [])
        assert [(one.receiver, one.ok) for one in found] == [("pager", True)] * 2
        assert sorted(hooks.keys) == ["a", "b"]
        assert deliver_waiting(environment, ledger, []) == []


def test_without_a_ledger_each_receiver_is_asked_once_and_who_has_it_is_known() -> None:
    with Hooks() as good, Hooks() as stuck:
        stuck.hangs = True
        direct, what = Direct({"good": hook(good.url), "stuck": hook(stuck.url)}), message("a")
        direct.tell([what])
        until(lambda: direct.told(what) == ("good",))
        assert [(one.receiver, one.told) for one in direct.letters([what])] == [("good", True), ("stuck", False)]
        direct.wait(0.01)
