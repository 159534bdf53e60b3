"""The response contract: what counts as broken, and what is not judged at all."""

import re
import time

import pytest
from places import ROOT

from configs.contract import JUDGED_CHARS, Contract
from configs.errors import ConfigError
from configs.loading import load
from evals.contract import judge

TUTOR = load(ROOT / "configs/tutor/contract.yaml", Contract)


def contract(**detector) -> Contract:
    return Contract.model_validate({"detectors": {"it": detector}})


def breaks(text: str, *, is_whole: bool = True, **detector) -> bool | None:
    return judge(contract(**detector), text, is_whole=is_whole).verdicts.get("it")


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
    assert judge(TUTOR, "").verdicts == judge(TUTOR, " \n ").verdicts == {}


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
    assert {name for name, is_broken in judge(TUTOR, text).verdicts.items() if is_broken} == broken


HOSTILE = (
    "1. = ",
    "the answer ",
    "=   ",
    "**",
    "\n",
    ".",
    "?)",
    "* ",
    "1) ",
    "\u0345\u0316",
    "_a",
    "|",
    "\n-",
    "[(",
    "sorry ",
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_answer_is_judged_in_no_time(piece):
    text = ("x" + piece * JUDGED_CHARS)[: JUDGED_CHARS - 1] + "|"
    began = time.process_time()
    judge(TUTOR, text)
    assert time.process_time() - began < 0.1  # a second and more where a pattern looks again and again


def test_a_pattern_that_repeats_what_repeats_takes_no_time():
    began = time.process_time()
    assert breaks("1" * JUDGED_CHARS, kind="pattern", pattern=r"(\d+\s?)+=\s*\d") is False
    assert time.process_time() - began < 0.1


TWICE = {"$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)} | {"a40": {}}}


def test_a_schema_that_would_take_for_ever_gives_up_and_counts_for_nothing():
    found = judge(contract(kind="json", json_schema=TWICE | {"$ref": "#/$defs/a0"}), "[]")
    assert (found.verdicts, found.given_up) == ({}, ("it",))


@pytest.mark.parametrize(
    ("schema", "kept", "broken"),
    [
        ({"items": {"pattern": "^a+$"}}, '["aa", 1]', '["ab"]'),
        ({"patternProperties": {"^n": {"type": "number"}}}, '{"n": 1, "x": ""}', '{"n": ""}'),
        (
            {"properties": {"a": {}}, "patternProperties": {"^n": {}}, "additionalProperties": False},
            '{"a": 1, "n1": 2}',
            '{"b": 1}',
        ),
        ({"additionalProperties": {"type": "number"}}, '{"a": 1}', '{"a": "1"}'),
        ({"uniqueItems": True}, "[1, true, [1], [true], {}]", '[{"a": 1}, {"a": 1.0}]'),
        ({"$defs": {"n": {"type": "number"}}, "items": {"$ref": "#/$defs/n"}}, "[1]", '[""]'),
    ],
)
def test_a_schemas_own_rules_mean_what_json_schema_says(schema, kept, broken):
    assert breaks(kept, kind="json", json_schema=schema) is False
    assert breaks(broken, kind="json", json_schema=schema) is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("detectors: {it: {kind: form}}", "this form allows everything"),
        ("detectors: {it: {kind: pattern, pattern: '('}}", "not a regular expression"),
        ("detectors: {it: {kind: json, json_schema: {type: texts}}}", "not a JSON Schema, at type"),
        ("detectors: {it: {kind: pattern, pattern: 'a(?=b)'}}", "RE2 does not know"),
        ("detectors: {it: {kind: pattern, pattern: '(.{500}){100}'}}", "repetition"),
        ("detectors: {it: {kind: json, json_schema: {$ref: 'http://x/y'}}}", "leads out of the schema"),
        ("detectors: {it: {kind: json, json_schema: {$ref: '#/$defs/y'}}}", "leads nowhere"),
        ("detectors: {it: {kind: json, json_schema: {unevaluatedItems: false}}}", "bounded time"),
        ("detectors: {it: {kind: json, json_schema: {pattern: '(a)\\1'}}}", "RE2 does not know"),
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
