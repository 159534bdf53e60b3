"""One batch of pairs: which are read, which are asked about, and up to where that is settled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from configs.judge import Judge
from delivery.checks.evidence import Cursor
from delivery.checks.judgements import Settled
from delivery.clients.gateway import GatewayError
from delivery.clients.judge import JudgeMessage, JudgeReply
from delivery.traffic.pairs import Pair, PairPage
from tasks.release.judge import BatchOutcome, PairsSource, Wanted, ask_about

SETTINGS = Judge(base_url="http://127.0.0.1:9000/v1", model="wise")


@dataclass
class Source:
    """A gateway's pairs."""

    pairs_kept: list[Pair]
    boot: str = "b1"
    is_up: bool = True

    def pairs(self, after: int, limit: int = 200) -> PairPage:
        if not self.is_up:
            raise GatewayError("the gateway's admin API cannot be reached")
        found = [pair for pair in self.pairs_kept if pair.seq > after][:limit]
        last = self.pairs_kept[-1].seq if self.pairs_kept else 0
        return PairPage(boot_id=self.boot, pairs=tuple(found), last_seq=last)


@dataclass
class Oracle:
    """Prefers the second answer's arm consistently: what it says is `B` first, then `A`. Or these replies."""

    replies: list[JudgeReply] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)

    def ask(self, questions: Sequence[Sequence[JudgeMessage]]) -> list[JudgeReply]:
        self.asked += questions
        return self.replies or [JudgeReply("said", "BA"[n % 2]) for n in range(len(questions))]


def pair(seq: int, name: str = "q", **more: Any) -> Pair:
    values: dict[str, Any] = {"seq": seq, "request_id": f"{name}{seq}", "route": "tutor", "epoch": "r/0-shadow"}
    values |= {"user": "", "started_at": 1.0, "asked": "1 + 1?", "stable": "2", "candidate": "What is one?"}
    return Pair.model_validate(values | more)


def wanted(most: int = 8, **cursors: Cursor) -> Wanted:
    return Wanted("tutor", "r/0-shadow", most, cursors)


def batch(source: Source, oracle: Oracle, want: Wanted) -> BatchOutcome:
    return ask_about(want, SETTINGS, oracle, {"gw": source})


def test_a_batch_draws_from_everything_that_is_new_and_settles_all_of_it() -> None:
    oracle = Oracle()
    done = batch(Source([pair(n) for n in range(1, 451)]), oracle, wanted(most=3))
    assert [one.preference for one in done.judged] == ["candidate"] * 3
    assert len(oracle.asked) == 6
    assert done.settled == (Settled(gateway="gw", boot_id="b1", seq=450),)
    assert done.error == ""


def test_what_was_settled_is_not_read_again_unless_the_gateway_has_restarted() -> None:
    source = Source([pair(n) for n in range(1, 6)])
    done = batch(source, Oracle(), wanted(gw=Cursor(boot_id="b1", seq=3)))
    assert sorted(one.seq for one in done.judged) == [4, 5]
    source.boot = "b2"
    done = batch(source, Oracle(), wanted(gw=Cursor(boot_id="b1", seq=3)))
    assert sorted(one.seq for one in done.judged) == [1, 2, 3, 4, 5]
    assert {one.boot_id for one in done.judged} == {"b2"}


def test_pairs_of_another_stage_or_route_are_settled_and_not_asked_about() -> None:
    oracle = Oracle()
    done = batch(Source([pair(1, epoch="r/old"), pair(2, route="other")]), oracle, wanted())
    assert (done.judged, oracle.asked, done.error) == ((), [], None)
    assert done.settled == (Settled(gateway="gw", boot_id="b1", seq=2),)


def test_equal_answers_are_a_tie_and_nobody_is_asked() -> None:
    oracle = Oracle()
    done = batch(Source([pair(1, candidate="2 ")]), oracle, wanted())
    assert [(one.preference, one.asked) for one in done.judged] == [("tie", False)]
    assert (oracle.asked, done.error) == ([], None)


def test_the_pairs_of_all_gateways_are_drawn_from_and_one_that_is_down_loses_nothing() -> None:
    sources: dict[str, PairsSource] = {"a": Source([pair(1, "a")]), "b": Source([pair(7, "b")], is_up=False)}
    done = ask_about(wanted(), SETTINGS, Oracle(), sources)
    assert [one.gateway for one in done.judged] == ["a"]
    assert done.settled == (Settled(gateway="a", boot_id="b1", seq=1),)
    sources = {name: Source([], is_up=False) for name in "ab"}
    with pytest.raises(GatewayError):
        ask_about(wanted(), SETTINGS, Oracle(), sources)


def test_where_the_judge_is_away_nothing_is_settled() -> None:
    away = [JudgeReply("away", "it cannot be reached: refused")] * 4
    done = batch(Source([pair(1), pair(2)]), Oracle(away), wanted())
    assert done == BatchOutcome(error="the judge does not answer: it cannot be reached: refused")


def test_a_reply_that_is_missing_makes_one_pair_unclear_and_it_is_not_paid_for_again() -> None:
    mixed = [
        JudgeReply("said", "B"),
        JudgeReply("late", "no reply within 30 s"),
        JudgeReply("said", "B"),
        JudgeReply("said", "A"),
    ]
    done = batch(Source([pair(1), pair(2)]), Oracle(mixed), wanted())
    assert sorted(one.preference for one in done.judged) == ["candidate", "unclear"]
    assert all(one.asked for one in done.judged)
    assert (len(done.settled), done.error) == (1, "")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (JudgeReply("late", "no reply within 30 s"), "the judge does not answer: no reply within 30 s"),
        (JudgeReply("said", "Both are fine, Ada."), "none of the judge's 2 replies was A, B or tie"),
    ],
)
def test_what_was_paid_for_in_vain_is_settled_and_an_error_that_quotes_nobody(reply: JudgeReply, error: str) -> None:
    done = batch(Source([pair(1)]), Oracle([reply, reply]), wanted())
    assert [(one.preference, one.asked) for one in done.judged] == [("unclear", True)]
    assert (len(done.settled), done.error) == (1, error)
