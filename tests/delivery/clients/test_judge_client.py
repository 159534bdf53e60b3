"""Questions to a judge over HTTP: what is sent, what comes back, and what is told of a judge that cannot reply."""

import json
import threading
import time

import pytest
from answering import answering
from stub_judge import StubJudge, always_a, garbage

from configs.errors import SlipwayError
from configs.judge import Judge
from delivery.clients.judge import AGAIN_AFTER_S, JudgeClient, key_of

pytestmark = pytest.mark.live

QUESTION = [{"role": "system", "content": "Judge."}, {"role": "user", "content": json.dumps({"answer_A": "x"})}]


def client(judge: StubJudge, key: str = "", **more: object) -> JudgeClient:
    settings = {"base_url": judge.url, "model": "wise"} | more
    return JudgeClient(Judge.model_validate(settings), key)


def test_replies_come_in_the_order_of_the_questions() -> None:
    questions = [[{"role": "user", "content": json.dumps({"n": n})}] for n in range(10)]
    with StubJudge(lambda shown: f"number {shown['n']}") as judge:
        replies = client(judge).ask(questions)
    assert [(reply.outcome, reply.text) for reply in replies] == [("said", f"number {n}") for n in range(10)]


def test_a_question_is_asked_at_temperature_0_with_the_key_and_the_settings_parameters() -> None:
    more = {"parameters": {"seed": 7, "max_tokens": None, "max_completion_tokens": 9}}
    with StubJudge(always_a) as judge:
        client(judge, "sk-secret", **more).ask([QUESTION])
        client(judge).ask([QUESTION])
    first, second = judge.bodies
    assert first == {
        "model": "wise",
        "messages": QUESTION,
        "temperature": 0,
        "seed": 7,
        "max_completion_tokens": 9,
    }
    assert second["max_tokens"] == 64
    assert judge.keys == ["Bearer sk-secret", None]


def test_so_many_questions_are_asked_at_once_and_no_more() -> None:
    met = threading.Barrier(3)  # nobody is answered before three are asked
    with StubJudge(lambda shown: (met.wait(60), "A")[1]) as judge:
        replies = client(judge, concurrent_questions=3, timeout_s=60).ask([QUESTION] * 9)
    assert [reply.outcome for reply in replies] == ["said"] * 9
    assert judge.most_at_once == 3


def test_a_slow_judge_is_late_not_waited_for() -> None:
    with StubJudge(always_a) as judge:
        judge.hold()
        (reply,) = client(judge, timeout_s=0.2).ask([QUESTION])
        assert judge.at_once == 1  # it still thinks
    assert (reply.outcome, reply.text) == ("late", "no reply within 0.2 s")
    assert len(judge.bodies) == 1  # what may have been paid for is not asked twice


def test_a_judge_that_is_down_is_away() -> None:
    with StubJudge(always_a) as judge:
        gone = client(judge)
    (reply,) = gone.ask([QUESTION])
    assert reply.outcome == "away"
    assert "cannot be reached" in reply.text


@pytest.mark.parametrize(("status", "outcome", "tries"), [(500, "away", 2), (401, "away", 2), (400, "refused", 1)])
def test_a_complaint_is_told_without_the_key_and_without_what_may_quote_the_question(
    status: int, outcome: str, tries: int
) -> None:
    with StubJudge(lambda shown: status) as judge:
        (reply,) = client(judge, "sk-secret").ask([QUESTION])
    assert (reply.outcome, len(judge.bodies)) == (outcome, tries)
    assert f"HTTP {status}" in reply.text
    assert (f"status {status}" in reply.text) == (outcome == "away")  # words about the question may quote it
    assert "sk-secret" not in reply.text


def test_a_bad_moment_is_tried_again_once() -> None:
    statuses = [503]
    with StubJudge(lambda shown: statuses.pop() if statuses else "A") as judge:
        began = time.monotonic()
        (reply,) = client(judge).ask([QUESTION])
    assert (reply.outcome, reply.text, len(judge.bodies)) == ("said", "A", 2)
    assert time.monotonic() - began >= AGAIN_AFTER_S


def test_words_are_handed_on_whatever_they_are() -> None:
    with StubJudge(garbage) as judge:
        (reply,) = client(judge).ask([QUESTION])
    assert reply.outcome == "said"
    assert reply.text.startswith("Both answers")


def test_the_key_comes_from_the_environment_alone() -> None:
    settings = Judge(base_url="http://127.0.0.1:1/v1", model="wise")
    named = settings.model_copy(update={"api_key_env": "JUDGE_KEY"})
    assert key_of(settings, {"JUDGE_KEY": "k"}) == ""
    assert key_of(named, {"JUDGE_KEY": " k "}) == "k"
    assert key_of(named, {"JUDGE_KEY": ""}) is None


def test_a_judge_is_looked_for_without_a_question() -> None:
    with StubJudge(always_a) as judge:
        client(judge).require_answers()  # it has no list of models, and answers
        assert judge.bodies == []
    with pytest.raises(SlipwayError, match="the judge cannot be reached") as away:
        client(judge).require_answers()
    assert "judge.base_url" in away.value.cure


@pytest.mark.parametrize(("status", "said"), [(401, "refuses this key"), (403, "refuses this key"), (500, "fails")])
def test_a_judge_that_refuses_the_key_or_fails_is_told_with_the_cure_and_without_the_key(
    status: int, said: str
) -> None:
    with answering(status, b'{"error": "no such key: sk-secret"}') as place:
        settings = Judge.model_validate({"base_url": f"http://{place}/v1", "model": "wise", "api_key_env": "JUDGE_KEY"})
        with pytest.raises(SlipwayError, match=said) as found:
            JudgeClient(settings, "sk-secret").require_answers()
    assert "sk-secret" not in found.value.render()
    assert ("JUDGE_KEY" if status < 500 else "see that it runs") in found.value.cure


@pytest.mark.parametrize("status", [200, 404, 405, 429, 501])
def test_a_judge_without_a_list_of_models_or_with_too_much_to_do_is_there(status: int) -> None:
    with answering(status, b"{}") as place:
        JudgeClient(Judge.model_validate({"base_url": f"http://{place}/v1", "model": "wise"})).require_answers()
