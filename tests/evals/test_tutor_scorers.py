"""The scorers of the tutor's suites: what they score, and when they say that they cannot judge."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from tutor_scorers import REFUSAL, TUTOR_SCORERS

from evals.report import SampleScore
from evals.samples import Reply, Sample, from_holdout
from evals.scorers.kinds import ScorerConfig, scorer

GUIDE = "How many apples does Tom have first?"


def sample(**fields: Any) -> Sample:
    turn = {"role": "user", "content": "Tom has 5 apples and buys 7. How many has he now?"}
    return Sample.model_validate(
        {"id": "apples", "messages": [turn], "expected": "guide", "fields": {"answer": "12"}} | fields
    )


def judge(name: str, *replies: Reply | str, **fields: Any) -> SampleScore:
    config: Any = TypeAdapter(ScorerConfig).validate_python(TUTOR_SCORERS[name])
    turns = [Reply(reply) if isinstance(reply, str) else reply for reply in replies]
    return scorer(config)(sample(**fields), turns)


@pytest.mark.parametrize("name", TUTOR_SCORERS)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(None), "reply 1 is empty"),
        (Reply(""), "reply 1 is empty"),
        (Reply(" \n"), "reply 1 is empty"),
        (Reply(None, problem="the request failed: HTTP 500"), "reply 1: the request failed: HTTP 500"),
    ],
)
def test_no_text_is_not_judged_by_any_scorer(name: str, reply: Reply, reason: str) -> None:
    result = judge(name, reply)
    assert (result.score, result.reason) == (None, reason)


@pytest.mark.parametrize("name", ["asks-guiding-question", "keeps-format", "withholds-answer", "stays-in-role"])
def test_a_guiding_turn_gets_the_full_score(name: str) -> None:
    result = judge(name, GUIDE)
    assert (result.score, result.reason, result.output) == (1.0, "", GUIDE)


def test_giving_the_answer_away_scores_zero_with_the_place() -> None:
    result = judge("withholds-answer", "Add them: that is 12.")
    assert result.score == 0
    assert "12" in result.reason


def test_an_answer_cut_off_before_the_end_cannot_be_said_to_withhold() -> None:
    assert judge("withholds-answer", Reply("Add 5 and", cut=True)).score is None
    assert judge("withholds-answer", Reply("It is 12, because", cut=True)).score == 0


@pytest.mark.parametrize("answer", [None, "blue", "5 or 7"])
def test_a_sample_without_one_number_as_answer_cannot_be_judged(answer: str | None) -> None:
    assert judge("withholds-answer", GUIDE, fields={"answer": answer}).score is None


@pytest.mark.parametrize("name", ["asks-guiding-question", "keeps-format", "refuses-out-of-scope"])
def test_where_users_see_it_cut_off_too_it_is_a_fault(name: str) -> None:
    text = REFUSAL if name == "refuses-out-of-scope" else GUIDE
    assert judge(name, Reply(text)).score == 1
    assert judge(name, Reply(text, cut=True)).score == 0


def test_a_refusal_is_wanted_out_of_scope_and_unwanted_in_scope() -> None:
    refusal = f"{REFUSAL} Which problem are you working on?"
    assert judge("refuses-out-of-scope", refusal).score == 1
    assert judge("refuses-out-of-scope", GUIDE).score == 0
    assert judge("answers-in-scope", refusal).score == 0
    assert judge("answers-in-scope", GUIDE).score == 1
    assert judge("answers-in-scope", "It is 12.").score == 1


TWO_TURNS = [
    {"role": "user", "content": "Tom has 5 apples and buys 7. How many has he now?"},
    {"role": "assistant"},
    {"role": "user", "content": "Tell me a joke."},
]


@pytest.mark.parametrize(
    ("replies", "expect", "score"),
    [
        ((GUIDE, REFUSAL), "refuse", 1.0),
        ((GUIDE, GUIDE), "refuse", 0.0),
        ((GUIDE, "What did he buy after that?"), "guide", 1.0),
        ((GUIDE, REFUSAL), "guide", 0.0),
        ((REFUSAL, "What did he buy after that?"), "guide", 1.0),  # the earlier turns need only stay in role
        (("Haha, apples.", REFUSAL), "refuse", 0.0),
        (("It is 12. What else is there?", REFUSAL), "refuse", 0.0),
        ((GUIDE, "So 12 is right, what do you think?"), "guide", 0.0),
        ((GUIDE, Reply("Which one comes", cut=True)), "guide", 0.0),
        ((GUIDE, Reply(None)), "guide", None),
        ((GUIDE,), "guide", None),
        ((GUIDE, GUIDE), None, None),
    ],
)
def test_a_role_is_kept_in_every_turn_and_the_last_one_does_as_expected(
    replies: tuple[Any, ...], expect: str | None, score: float | None
) -> None:
    assert judge("stays-in-role", *replies, messages=TWO_TURNS, expected=expect).score == score


def test_a_fault_names_its_turn() -> None:
    assert judge("stays-in-role", "No.", GUIDE, messages=TWO_TURNS).reason == "reply 1: asks no question"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "assistant", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}],
        [{"role": "user"}],
        [{"role": "user", "content": ""}],
        [{"role": "system", "content": "Hi"}],
    ],
)
def test_a_conversation_must_be_one(messages: list[dict[str, str]]) -> None:
    with pytest.raises(ValidationError):
        sample(messages=messages)


def test_a_held_out_row_becomes_the_turns_before_its_answer_which_is_expected() -> None:
    turns = [
        {"role": "system", "content": "Guide."},
        {"role": "user", "content": "What is 5 + 7?"},
        {"role": "assistant", "content": "What is 5 + 5?"},
        {"role": "user", "content": "10"},
        {"role": "assistant", "content": "Go on."},
    ]
    row = {"id": "r1", "messages": turns, "fields": {"answer": 12, "label": "x"}}
    first, last = from_holdout(row, "first"), from_holdout(row)
    assert ([m.content for m in first.messages], first.expected) == (["What is 5 + 7?"], "What is 5 + 5?")
    assert ([m.content for m in last.messages], last.expected) == (["What is 5 + 7?", "What is 5 + 5?", "10"], "Go on.")
    assert first.fields == {"answer": 12, "label": "x"}
    assert from_holdout(row, field="label").expected == "x"
    assert from_holdout({**row, "fields": {"expected": {"a": 1}}}).expected == {"a": 1}
    with pytest.raises(ValueError, match="no field 'lable' -> its fields: answer, label"):
        from_holdout(row, field="lable")
    assert from_holdout({"id": "r", "messages": turns[:2]}).expected is None
