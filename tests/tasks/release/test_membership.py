"""Who belongs to an environment, asked tick by tick: what was known counts while nobody answers."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from configs.errors import SlipwayError
from delivery.clients.gateway import GatewayClient
from tasks.release.membership import GatewayClients, Membership
from tasks.serving.target import Members

ONE, TWO = Members(("http://v1",), ("http://g1",)), Members(("http://v2",), ("http://g2",))


class AtOnce(Executor):
    """Does what it is asked before it answers."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except SlipwayError as error:
            future.set_exception(error)
        return future


class Never(Executor):
    """Never answers."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return Future()


def test_what_was_known_counts_while_whoever_knows_is_away() -> None:
    answers: list[Members | SlipwayError] = [ONE, SlipwayError("away"), TWO]

    def ask() -> Members:
        answer = answers.pop(0)
        if isinstance(answer, SlipwayError):
            raise answer
        return answer

    membership = Membership(ask, AtOnce())
    assert [(membership.see(), membership.trouble) for _ in range(3)] == [(ONE, ""), (ONE, "away"), (TWO, "")]


def test_a_place_that_never_changes_is_asked_once() -> None:
    asked: list[int] = []
    membership = Membership(lambda: asked.append(1), AtOnce())
    assert [membership.see() for _ in range(3)] == [None] * 3
    assert asked == [1]


def test_nobody_waits_for_an_answer_that_does_not_come() -> None:
    membership = Membership(lambda: ONE, Never())
    assert membership.see() is None


def test_gateways_come_and_go_and_one_that_has_left_can_still_be_spoken_of() -> None:
    clients = GatewayClients(lambda url: GatewayClient(url, "token"), ("http://g1", "http://g2"))
    first = clients["http://g1"]
    clients.follow(("http://g2", "http://g3"))
    assert list(clients) == ["http://g2", "http://g3"]
    assert "http://g1" not in clients
    assert clients["http://g1"] is first
    with pytest.raises(KeyError):
        clients["http://g4"]
    clients.close()
