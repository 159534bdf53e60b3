"""What is told from a look at rows, and what is asked for where nothing can be told."""

import pytest

from configs.errors import ConfigError
from delivery.build.guess import guess

MULTIPLE_CHOICE = [{"query": f"{n}?", "choices": ["a", "b", "c"], "gold": n % 3} for n in range(12)]
LABELLED = [{"text": f"sentence {n}", "label": ("good", "bad")[n % 2]} for n in range(12)]


def chat(answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}]}


def test_questions_with_choices_become_an_object_with_the_letter() -> None:
    found = guess(MULTIPLE_CHOICE, "json")
    assert [turn.content for turn in found.turns] == ["{query}\n{choices|lettered}", '{{"choice": "{gold|letter}"}}']
    assert found.example == '{"choice": "A"}'
    assert found.schema["properties"] == {"choice": {"enum": ["A", "B", "C"]}}
    assert found.schema["required"] == ["choice"]


def test_few_answers_that_come_again_and_again_are_labels() -> None:
    found = guess(LABELLED, None)
    assert (found.kind, found.labels) == ("classify", ("good", "bad"))
    assert [turn.content for turn in found.turns] == ["{text}", "{label}"]


def test_a_known_layout_is_read_by_its_reader() -> None:
    rows = [chat(f"an answer of its own, number {n}") for n in range(5)]
    found = guess(rows, None)
    assert (found.kind, found.reader, found.turns) == ("chat", "messages", ())


def test_answers_that_are_objects_make_a_json_project_with_their_schema() -> None:
    rows = [chat('{"city": "Rome", "people": 3}'), chat('{"city": "Bern", "people": 4.5, "note": null}')]
    found = guess(rows, None)
    assert found.kind == "json"
    assert found.schema["properties"] == {
        "city": {"type": "string"},
        "people": {"type": "number"},
        "note": {"type": "null"},
    }
    assert found.schema["required"] == ["city", "people"]


def test_named_fields_come_before_any_guess() -> None:
    rows = [{"a": "1 + 1?", "b": "2", "answer": "unused"} for _ in range(3)]
    found = guess(rows, "chat", question="a", answer="b")
    assert [turn.content for turn in found.turns] == ["{a}", "{b}"]


def test_a_field_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"--question: 'quesiton' is no field(?s:.)*fields: text, label"):
        guess(LABELLED, None, question="quesiton")


def test_rows_that_tell_nothing_ask_for_their_fields() -> None:
    with pytest.raises(ConfigError, match="--question FIELD --answer FIELD"):
        guess([{"x": "1", "y": "2"}], None)


def test_answers_that_are_no_objects_make_no_json_project() -> None:
    with pytest.raises(ConfigError, match="an answer is no JSON object: 'plain text'"):
        guess([chat("plain text")], "json")


def test_too_many_different_answers_are_no_labels() -> None:
    with pytest.raises(ConfigError, match="60 different texts"):
        guess([{"text": "x", "label": f"label {n}"} for n in range(60)], "classify")
