"""The response contract: what counts as broken, and what is not judged at all."""

import re

import pytest
from places import ROOT

from configs.contract import JUDGED_CHARS, Contract
from configs.errors import ConfigError
from configs.loading import load
from evals.contract import verdicts

TUTOR = load(ROOT / "configs/tutor/contract.yaml", Contract)


def contract(**detector) -> Contract:
    return Contract.model_validate({"detectors": {"it": detector}})


def breaks(text: str, *, is_whole: bool = True, **detector) -> bool | None:
    return verdicts(contract(**detector), text, is_whole=is_whole).get("it")


@pytest.mark.parametrize(
    ("detector", "kept", "broken"),
    [
        ({"kind": "form", "max_words": 3}, "one two three", "one two three four"),
        ({"kind": "form", "max_sentences": 1}, "One. ", "One. Two."),
        ({"kind": "form", "plain_text": True}, "Just words", "**Bold** words"),
        ({"kind": "form", "ends_with": "question"}, "What is next?", "What is next? Say it."),
        ({"kind": "refusal", "opening": "No maths here"}, "What is 2 + 2?", "No maths here, thanks."),
        ({"kind": "refusal"}, "Which step is next?", "I'm sorry, I cannot help with that."),
        ({"kind": "pattern", "pattern": "secret"}, "open", "The SECRET is out"),
        ({"kind": "pattern", "pattern": "secret", "ignore_case": False}, "The SECRET is out", "a secret"),
        ({"kind": "pattern", "pattern": r"\[\d+\]", "broken_by": "absence"}, "As in [3]", "No source"),
        ({"kind": "json"}, '{"a": 1}', '{"a": 1'),
        ({"kind": "json", "json_schema": {"required": ["a"]}}, '{"a": 1}', '{"b": 1}'),
    ],
)
def test_each_kind_of_detector_tells_kept_from_broken(detector, kept, broken):
    assert breaks(kept, **detector) is False
    assert breaks(broken, **detector) is True


def test_an_answer_without_text_is_not_judged():
    assert verdicts(TUTOR, "") == verdicts(TUTOR, " \n ") == {}


@pytest.mark.parametrize(
    ("detector", "text", "verdict"),
    [
        ({"kind": "form", "max_words": 3}, "one two three four", True),
        ({"kind": "form", "max_words": 3}, "one two", None),
        ({"kind": "form", "ends_with": "question"}, "one two", None),
        ({"kind": "pattern", "pattern": "secret"}, "a secret", True),
        ({"kind": "pattern", "pattern": "secret"}, "nothing", None),
        ({"kind": "pattern", "pattern": "source", "broken_by": "absence"}, "a source", False),
        ({"kind": "pattern", "pattern": "source", "broken_by": "absence"}, "nothing", None),
        ({"kind": "refusal"}, "I cannot help with that", True),
        ({"kind": "refusal"}, "Which step", False),
        ({"kind": "json"}, '{"a": 1}', None),
    ],
)
def test_of_an_answer_whose_end_is_missing_only_what_its_beginning_shows_is_told(detector, text, verdict):
    assert breaks(text, is_whole=False, **detector) is verdict


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("How many apples are left in one bag?", set()),
        ("I can only help with maths. Which problem are you working on?", {"refusal"}),
        ("The answer is 48.", {"format", "gives_answer_away"}),
        ("So 5 x 6 = 30, you see?", set()),
        ("5 x 6 = 30. Do you see?", {"gives_answer_away"}),
        ("You get 12 apples.", {"format", "gives_answer_away"}),
        ("Is the answer 48?", set()),
    ],
)
def test_the_tutors_contract(text, broken):
    assert {name for name, is_broken in verdicts(TUTOR, text).items() if is_broken} == broken


def test_a_hostile_answer_is_judged_in_bounded_time():
    for text in ("1. = " * JUDGED_CHARS, "the answer " * JUDGED_CHARS, "=   " * JUDGED_CHARS, "**" * JUDGED_CHARS):
        assert verdicts(TUTOR, text[:JUDGED_CHARS])["format"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("detectors: {it: {kind: form}}", "this form allows everything"),
        ("detectors: {it: {kind: pattern, pattern: '('}}", "not a regular expression"),
        ("detectors: {it: {kind: json, json_schema: {type: texts}}}", "not a JSON Schema, at type"),
        ("detectors: {it: {kind: form, max_word: 3}}", "did you mean 'max_words'"),
        ("detectors: {It's: {kind: refusal}}", "pattern"),
        ("detectors: {}", "detectors"),
    ],
)
def test_a_contract_that_cannot_work_is_refused(tmp_path, text, message):
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(path, Contract)
