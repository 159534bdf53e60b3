"""Replies before a judge: both orders, ties, a judge that changes its mind, and one that is away."""

from typing import Any

import pytest
from pydantic import TypeAdapter
from stub_judge import StubJudge, always_a, garbage, prefers

from configs.errors import SlipwayError
from evals.samples import Reply, Sample
from evals.scorers.judge import JudgeScorer
from evals.scorers.kinds import ScorerConfig
from tasks.evals.judging import judge_replies

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant"}, {"role": "user", "content": "And now?"}]


def config(url: str, **more: Any) -> JudgeScorer:
    judge = {"base_url": f"{url}/v1", "model": "pinned-2026-11", **more}
    return TypeAdapter(ScorerConfig).validate_python({"name": "judge", "judge": judge})  # type: ignore[return-value]


def asked(*replies: str, expected: Any = "a good answer") -> list[tuple[Sample, tuple[Reply, ...]]]:
    return [
        (Sample.model_validate({"id": str(n), "messages": TURNS, "expected": expected}), (Reply("Ho"), Reply(text)))
        for n, text in enumerate(replies)
    ]


def test_both_orders_are_asked_about_the_whole_conversation() -> None:
    with StubJudge(prefers("good")) as judge:
        found = judge_replies(
            config(judge.url.removesuffix("/v1")), asked("a bad answer", "another good one", "a good answer "), {}
        )
    assert [score.score for score in found.scores] == [0, 0.5, 0.5]
    assert found.failed == ()
    assert len(judge.shown) == 4  # an answer equal to what is expected needs no judge
    assert [turn["content"] for turn in judge.shown[0]["conversation"]] == ["Hi", "Ho", "And now?"]
    assert {(s["answer_A"], s["answer_B"]) for s in judge.shown} == {  # whichever came first
        ("a good answer", "a bad answer"),
        ("a bad answer", "a good answer"),
        ("a good answer", "another good one"),
        ("another good one", "a good answer"),
    }


@pytest.mark.parametrize(("behave", "reason"), [(always_a, "changes its mind"), (garbage, "not understood")])
def test_a_judge_that_says_nothing_is_no_score(behave: Any, reason: str) -> None:
    with StubJudge(behave) as judge:
        (score,) = judge_replies(config(judge.url.removesuffix("/v1")), asked("x"), {}).scores
    assert score.score is None
    assert reason in score.reason


def test_a_judge_that_is_away_is_told_and_leaves_holes() -> None:
    with StubJudge(lambda shown: 503) as judge:
        found = judge_replies(config(judge.url.removesuffix("/v1")), asked("x", "y"), {}, again_after_s=0)
    assert [score.score for score in found.scores] == [None, None]
    assert "HTTP 503" in found.scores[0].reason
    assert len(found.failed) == 4


def test_what_cannot_be_judged_is_not_asked() -> None:
    with StubJudge(always_a) as judge:
        found = judge_replies(config(judge.url.removesuffix("/v1")), [*asked(""), *asked("x", expected=None)], {})
    assert [score.score for score in found.scores] == [None, None]
    assert judge.shown == []


def test_a_judge_without_its_key_is_told_before() -> None:
    with pytest.raises(SlipwayError, match="JUDGE_KEY"):
        judge_replies(config("http://127.0.0.1:9", api_key_env="JUDGE_KEY"), asked("x"), {})


def test_what_bounds_a_releases_judge_is_refused_here() -> None:
    with pytest.raises(ValueError, match="pairs_per_tick bound a release"):
        config("http://127.0.0.1:9", pairs_per_tick=3)
