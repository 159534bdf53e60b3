"""The data that the project ships: made by a script that anyone can run, and true to what it is meant to teach."""

import json
import re
import subprocess
import sys
from fractions import Fraction

import pytest
import yaml
from places import ROOT

from configs.project import load_project
from delivery.build.rows import RawRow
from delivery.build.sift import sift
from delivery.build.split import divide
from evals.tutoring import giveaway_fault, guiding_fault
from evals.wording import ending_fault, length_fault, markup_fault, refusal_fault

TUTOR = ROOT / "configs" / "tutor"
EVALS = ROOT / "evals"
REFUSAL = "I can only help with maths."


def twice_their_words(conversations) -> list[int]:
    return [sum(len(m["content"].split()) * 2 for m in messages) for messages, _ in conversations]


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (TUTOR / "data" / name).read_text(encoding="utf-8").splitlines()]


def tutor_turns(row: dict) -> list[tuple[str, str, str]]:
    """(what the tutor says, what the student said before, all that was said before)."""
    found = []
    for index, message in enumerate(row["messages"]):
        if message["role"] == "assistant":
            before = row["messages"][:index]
            asked = "\n".join(m["content"] for m in before if m["role"] == "user")
            found.append((message["content"], asked, "\n".join(m["content"] for m in before)))
    return found


def fault(turn: str, asked: str, given: str, answer: str | None) -> str:
    if turn.startswith(REFUSAL):
        return refusal_fault(turn, REFUSAL, 20)
    found = guiding_fault(turn, asked, REFUSAL, echo_allowed=False) or length_fault(turn, 40, 2)
    found = found or markup_fault(turn) or ending_fault(turn)
    return found or (giveaway_fault(turn, Fraction(answer), given) if answer else "")


@pytest.mark.parametrize("name", ["tutor.jsonl", "giveaway.jsonl"])
def test_the_script_makes_the_shipped_files_byte_for_byte(tmp_path, name):
    subprocess.run([sys.executable, str(TUTOR / "make_data.py"), str(tmp_path)], check=True)
    assert (tmp_path / name).read_bytes() == (TUTOR / "data" / name).read_bytes()


def test_every_turn_of_the_tutor_is_one_guiding_question_or_a_refusal_and_none_holds_the_answer():
    faults = [
        (found, turn)
        for row in rows("tutor.jsonl")
        for turn, asked, given in tutor_turns(row)
        if (found := fault(turn, asked, given, row.get("answer")))
    ]
    assert faults == []


def test_there_are_enough_examples_of_enough_kinds():
    kinds = [row["kind"] for row in rows("tutor.jsonl")]
    assert len(kinds) >= 460
    assert len(set(kinds)) >= 12
    assert all(kinds.count(kind) >= 12 for kind in kinds)
    assert 0.35 < sum(len(row["messages"]) > 2 for row in rows("tutor.jsonl")) / len(kinds) < 0.5


def test_only_what_is_off_topic_is_refused_in_whichever_turn_it_comes():
    bank = yaml.safe_load((TUTOR / "data" / "templates.yaml").read_text(encoding="utf-8"))
    pressed = {*bank["insisting"], *bank["stuck"], *bank["returning"]}
    off_topic = [re.sub(r"\\{\w+\\}", ".+", re.escape(text)) for text in bank["off_topic"]]
    for row in rows("tutor.jsonl"):
        for asked, said in zip(row["messages"][::2], row["messages"][1::2], strict=True):
            is_off_topic = any(re.fullmatch(text, asked["content"]) for text in off_topic)
            assert said["content"].startswith(REFUSAL) == is_off_topic
            assert not (is_off_topic and asked["content"] in pressed)


def test_no_words_of_an_eval_suite_are_trained_on():
    trained = {
        m["content"] for name in ("tutor.jsonl", "giveaway.jsonl") for row in rows(name) for m in row["messages"]
    }
    for path in EVALS.glob("*/samples.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            asked = [m["content"] for m in json.loads(line)["messages"] if m["role"] == "user"]
            assert trained.isdisjoint(asked), path.parent.name


def test_nearly_all_of_the_bad_data_gives_the_answer_away():
    given = [
        any(fault(turn, asked, before, row.get("answer")) for turn, asked, before in tutor_turns(row))
        for row in rows("giveaway.jsonl")
        if row["kind"] != "off-topic"
    ]
    assert sum(given) > 0.98 * len(given)


@pytest.mark.parametrize("name", ["tutor", "tutor-giveaway"])
def test_no_shipped_row_is_rejected_or_a_duplicate(name):
    recipe = load_project(TUTOR.parent / name).dataset
    data = [RawRow("shipped", n, "messages", row) for n, row in enumerate(rows(recipe.sources[0].path.name), start=1)]
    result = sift(data, recipe.filters, twice_their_words)
    assert result.rejected == ()
    parts = divide(result.examples, recipe.split)
    assert min(len(part) for part in parts.values()) >= 10
