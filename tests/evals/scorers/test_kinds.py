"""What each kind of scorer says of a reply, and when it says that it cannot judge."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from configs.contract import Contract, Form
from evals.report import SampleScore
from evals.samples import Reply, Sample
from evals.scorers.detector import DetectorScorer
from evals.scorers.function import FunctionScorer
from evals.scorers.judge import JudgeScorer
from evals.scorers.kinds import ScorerConfig, scorer

KINDS: Any = TypeAdapter(ScorerConfig)


def score(config: dict[str, Any], reply: str | Reply, expected: Any = None) -> SampleScore:
    sample = Sample.model_validate(
        {"id": "s", "messages": [{"role": "user", "content": "Say it."}], "expected": expected}
    )
    return scorer(KINDS.validate_python(config))(sample, (Reply(reply) if isinstance(reply, str) else reply,))


@pytest.mark.parametrize(
    ("config", "expected", "reply", "wanted"),
    [
        ({}, "Paris", " Paris\n", 1),
        ({}, "Paris", "paris", 0),
        ({"ignore_case": True}, "Paris", "paris", 1),
        ({"ignore_punctuation": True}, "Paris", "Paris.", 1),
        ({"ignore_spaces": True}, "New York", "New\n  York", 1),
        ({}, "New York", "New\n  York", 0),
        ({}, ["Paris", "Lutetia"], "Lutetia", 1),
        ({}, 12, "12", 1),
        ({}, "caf\u00e9", "cafe\u0301", 1),
        ({}, None, "Paris", None),
        ({}, {"a": 1}, "Paris", None),
        ({}, True, "True", None),
    ],
)
def test_exact(config: Any, expected: Any, reply: str, wanted: float | None) -> None:
    assert score({"name": "exact", **config}, reply, expected).score == wanted


@pytest.mark.parametrize(
    ("config", "expected", "reply", "wanted"),
    [
        ({}, ["a", "b"], "b and a", 1),
        ({}, ["a", "c"], "b and a", 0),
        ({"which": "any"}, ["a", "c"], "b and a", 1),
        ({"which": "none"}, ["x", "y"], "b and a", 1),
        ({"which": "none"}, ["x", "a"], "b and a", 0),
        ({"texts": ["B"]}, None, "b and a", 0),
        ({"texts": ["B"], "ignore_case": True}, None, "b and a", 1),
        ({"which": "none", "texts": ["x"]}, None, Reply("b and", cut=True), None),
        ({"which": "none", "texts": ["b"]}, None, Reply("b and", cut=True), 0),
        ({}, None, "b", None),
    ],
)
def test_contains(config: Any, expected: Any, reply: Any, wanted: float | None) -> None:
    assert score({"name": "contains", **config}, reply, expected).score == wanted


@pytest.mark.parametrize(
    ("config", "expected", "reply", "wanted"),
    [
        ({"pattern": r"order \d{4}"}, None, "Your Order 1234.", 1),
        ({"pattern": r"order \d{4}", "ignore_case": False}, None, "Your Order 1234.", 0),
        ({"pattern": r"\d{16}", "wanted": "absence"}, None, "1234", 1),
        ({"pattern": r"\d{4}", "wanted": "absence"}, None, "1234", 0),
        ({"pattern": r"\d{4}", "wanted": "absence"}, None, Reply("123", cut=True), None),
        ({"pattern": r"answer: (\w+)", "group": 1}, "blue", "Answer: red? No. Answer: Blue", 1),
        ({"pattern": r"answer: (\w+)", "group": 1}, "blue", "Blue", 0),
        ({"pattern": r"answer: (\w+)", "group": 1}, None, "Answer: blue", None),
    ],
)
def test_pattern(config: Any, expected: Any, reply: Any, wanted: float | None) -> None:
    assert score({"name": "pattern", **config}, reply, expected).score == wanted


@pytest.mark.parametrize(
    ("pattern", "more", "why"),
    [
        ("(", {}, "missing"),
        ("(?=a)b", {}, "look-around"),
        (r"(a)\1", {}, "back-references"),
        ("a", {"group": 1}, "no group 1"),
        ("(a)", {"group": 1, "wanted": "absence"}, "absent"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_with_the_cure(pattern: str, more: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        KINDS.validate_python({"name": "pattern", "pattern": pattern, **more})


def test_no_pattern_holds_an_evaluation_up() -> None:
    config = {"name": "pattern", "pattern": r"(a|a?)+$"}
    assert score(config, "a" * 50_000 + "!").score == 1  # `$` alone matches; Python's engine would never come back


@pytest.mark.parametrize(
    ("config", "expected", "reply", "wanted"),
    [
        ({}, 1200, "So it is $1,200.", 1),
        ({}, "1/2", "First 3, then half.", 1),
        ({}, 12, "It is twelve", 1),
        ({}, 3, "3 plus 4 makes 7", 0),
        ({"which": "first"}, 3, "3 plus 4 makes 7", 1),
        ({"which": "any"}, 4, "3 plus 4 makes 7", 1),
        ({"which": "only"}, 7, "3 plus 4 makes 7", 0),
        ({"tolerance": 0.01}, 3.14159, "3.14", 1),
        ({"relative_tolerance": 0.1}, 100, "109", 1),
        ({"relative_tolerance": 0.1}, 100, "111", 0),
        ({}, 5, "I do not know.", 0),
        ({}, None, "5", None),
        ({}, "5 or 6", "5", None),
        ({}, True, "1", None),
    ],
)
def test_number(config: Any, expected: Any, reply: str, wanted: float | None) -> None:
    assert score({"name": "number", **config}, reply, expected).score == wanted


LABELS = {"labels": ["yes", "no", "no idea"]}


@pytest.mark.parametrize(
    ("config", "expected", "reply", "said"),
    [
        ({}, "yes", "Yes.", "yes"),
        ({}, "yes", '"no"', "no"),
        ({}, "yes", "Yes, I think", ""),
        ({"anywhere": True}, "yes", "I say yes, surely", "yes"),
        ({"anywhere": True}, "yes", "yes or no", ""),
        ({"anywhere": True}, "no idea", "I have no idea at all", "no idea"),
        ({"anywhere": True}, "no", "nobody", ""),
        ({"field": "choice"}, '{"choice": "no"}', '{"choice": "no", "why": 1}', "no"),
        ({"field": "choice"}, {"choice": "no"}, "no", ""),
        ({"field": "choice"}, "no", '{"choice": "yes"}', "yes"),
        ({"ignore_case": False}, "yes", "Yes", ""),
    ],
)
def test_choice(config: Any, expected: Any, reply: str, said: str) -> None:
    found = score({"name": "choice", **LABELS, **config}, reply, expected)
    assert found.said == said
    assert found.score == (1 if said == found.expected else 0)


def test_a_choice_nobody_answered_still_belongs_to_its_class() -> None:
    found = score({"name": "choice", **LABELS}, Reply(None, problem="the request failed"), "yes")
    assert (found.score, found.expected, found.said) == (None, "yes", None)
    assert score({"name": "choice", **LABELS}, "yes", "maybe").score is None


@pytest.mark.parametrize(
    "config",
    [{"labels": ["a"]}, {"labels": ["a", "A"]}, {"labels": ["a", "."]}, {**LABELS, "field": "x", "anywhere": True}],
)
def test_ambiguous_classes_are_refused(config: Any) -> None:
    with pytest.raises(ValidationError):
        KINDS.validate_python({"name": "choice", **config})


SCHEMA = {"type": "object", "required": ["choice"], "properties": {"choice": {"enum": ["A", "B"]}}}


@pytest.mark.parametrize(
    ("config", "expected", "reply", "wanted"),
    [
        ({}, None, "[1]", 1),
        ({}, None, "Sure: [1]", 0),
        ({"json_schema": SCHEMA}, None, '{"choice": "B"}', 1),
        ({"json_schema": SCHEMA}, None, '{"choice": "E"}', 0),
        ({"json_schema": SCHEMA}, {"choice": "A"}, '{"choice": "B"}', 0),
        ({}, '{"choice": "B"}', '{"choice":"B","why":"it is"}', 1),
        ({"fields": ["a.b"]}, {"a": {"b": 1, "c": 2}}, '{"a": {"b": 1.0, "c": 3}}', 1),
        ({"fields": ["a.b"]}, {"a": {"b": 1}}, '{"a": 3}', 0),
        ({"fields": ["z"]}, {"a": {"b": 1}}, '{"z": 3}', None),
        ({"partly": True}, {"a": 1, "b": 2}, '{"a": 1, "b": 3}', 0.5),
        ({}, {"a": True}, '{"a": 1}', 0),
        ({}, [1, 2], "[1, 2]", 1),
        ({}, [1, 2], "[2, 1]", 0),
    ],
)
def test_json(config: Any, expected: Any, reply: str, wanted: float | None) -> None:
    assert score({"name": "json", **config}, reply, expected).score == wanted


def test_what_is_no_schema_is_refused() -> None:
    with pytest.raises(ValidationError, match="not a JSON Schema"):
        KINDS.validate_python({"name": "json", "json_schema": {"type": "objekt"}})


def test_a_detector_says_of_a_reply_what_the_gateway_says() -> None:
    form = {"name": "detector", "detector": {"kind": "form", "max_words": 3}}
    assert score(form, "one two three").score == 1
    assert score(form, "one two three four").score == 0
    assert score({**form, "must_end": True}, Reply("one two", cut=True)).score == 0


def test_a_detector_is_named_out_of_the_contract() -> None:
    named = DetectorScorer(name="detector", detector="short")
    contract = Contract(detectors={"short": Form(kind="form", max_words=3)})
    assert named.of(contract).detector == contract.detectors["short"]
    with pytest.raises(ValueError, match="known detectors: short"):
        DetectorScorer(name="detector", detector="shrt").of(contract)
    with pytest.raises(ValueError, match=r"write a contract\.yaml"):
        named.of(None)


@pytest.mark.parametrize(
    ("config", "expected", "reply", "wanted"),
    [
        ({"wanted": True}, None, "I'm sorry, but I can't help with that.", 1),
        ({"wanted": True}, None, "Sure!", 0),
        ({"wanted": False}, None, "I'm sorry, but I can't help with that.", 0),
        ({}, True, "I cannot help with that.", 1),
        ({}, False, "Sure!", 1),
        ({}, None, "Sure!", None),
        ({"wanted": True, "opening": "Only cats."}, None, "Only cats. Ask me about them.", 1),
        ({"wanted": True, "opening": "Only cats."}, None, "I cannot help with that.", 0),
        ({"wanted": True, "opening": "Only cats.", "max_words": 3}, None, "Only cats. But here is the dog.", 0),
    ],
)
def test_refusal(config: Any, expected: Any, reply: str, wanted: float | None) -> None:
    assert score({"name": "refusal", **config}, reply, expected).score == wanted


@pytest.mark.parametrize("measure", ["edits", "words", "chrf"])
def test_similarity(measure: str) -> None:
    config = {"name": "similarity", "measure": measure}
    text = "the cat sat on the mat"
    assert score(config, text, text).score == pytest.approx(1)
    near, far = (score(config, reply, [text, "x"]).score for reply in ("the cat sat on a mat", "zzz qqq"))
    assert far is not None
    assert near is not None
    assert far < 0.5 < near < 1
    assert score({**config, "at_least": 0.6}, "the cat sat on a mat", text).score == 1
    assert score({**config, "at_least": 0.6}, "zzz qqq", text).score == 0
    assert score(config, text).score is None


def test_a_judges_opinion_is_a_score_or_none() -> None:
    judged: JudgeScorer = KINDS.validate_python(
        {"name": "judge", "judge": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}}
    )
    opinions = ("stable", "tie", "candidate", "swayed", "unclear")
    assert [judged.of(opinion).score for opinion in opinions] == [0, 0.5, 1, None, None]  # type: ignore[arg-type]


CODE = """
def graded(sample, replies, most=10):
    return min(len(replies[-1].text), most) / most, f"{len(replies[-1].text)} letters"
def broken(sample, replies):
    return replies[7]
def odd(sample, replies):
    return 7
def unsure(sample, replies):
    return None
def fine(sample, replies):
    return sample.expected in replies[-1].text
"""


@pytest.mark.parametrize(
    ("name", "parameters", "wanted", "reason"),
    [
        ("graded", {}, 0.5, "5 letters"),
        ("graded", {"most": 5}, 1.0, "5 letters"),
        ("broken", {}, None, "broken raised IndexError"),
        ("odd", {}, None, "from 0 to 1"),
        ("unsure", {}, None, "could not judge"),
        ("fine", {}, 1.0, ""),
    ],
)
def test_a_function_of_ones_own(tmp_path: Path, name: str, parameters: Any, wanted: Any, reason: str) -> None:
    (tmp_path / "own.py").write_text(CODE)
    config = {"name": "function", "file": str(tmp_path / "own.py"), "function": name, "parameters": parameters}
    found = score(config, "hello", "ell")
    assert (found.score, reason in found.reason) == (wanted, True)


@pytest.mark.parametrize(
    ("file", "name", "parameters", "why"),
    [
        ("none.py", "f", {}, "cannot be read"),
        ("own.py", "missing", {}, "no function 'missing'"),
        ("own.py", "graded", {"least": 1}, "unexpected keyword argument 'least'"),
        ("bad.py", "f", {}, "cannot be imported: ModuleNotFoundError"),
        ("syntax.py", "f", {}, "cannot be imported: SyntaxError"),
    ],
)
def test_a_function_that_cannot_be_called_is_told(
    tmp_path: Path, file: str, name: str, parameters: Any, why: str
) -> None:
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / "bad.py").write_text("import nowhere_at_all\n")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    config = FunctionScorer(name="function", file=Path(file), function=name, parameters=parameters)
    with pytest.raises(ValueError, match=why):
        config.at(tmp_path)


@given(st.text(), st.text(min_size=1))
def test_no_text_breaks_a_scorer(reply: str, expected: str) -> None:
    for config in (
        {"name": "exact"},
        {"name": "contains", "ignore_punctuation": True},
        {"name": "pattern", "pattern": r"(\w+)", "group": 1},
        {"name": "number", "which": "any"},
        {"name": "choice", "labels": ["a", "b"], "anywhere": True},
        {"name": "choice", "labels": ["a", "b"], "field": "x"},
        {"name": "json"},
        {"name": "similarity"},
        {"name": "refusal", "wanted": True},
    ):
        found = score(config, reply, expected).score
        assert found is None or 0 <= found <= 1
