"""Loading suites, and what the shipped ones promise."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.errors import ConfigError
from evals.numbers import mentions, normalised, value_of
from evals.suites import FOLDER, Suite, load_suites

TRAINING_DATA = sorted((FOLDER.parent / "configs").glob("*/data/*.jsonl"))
TUTOR = (
    "asks-guiding-question",
    "withholds-answer",
    "keeps-format",
    "refuses-out-of-scope",
    "answers-in-scope",
    "stays-in-role",
)
KINDS = {"one-step", "two-step", "fraction", "percent", "conversion", "equation", "average", "sequence", "money"}


def write(folder: Path, *, rows: list[Any] | None = None, **config: Any) -> Path:
    suite = folder / "mine"
    suite.mkdir(exist_ok=True)
    whole = {"name": "mine", "description": "d", "scorer": {"name": "keeps-format"}} | config
    (suite / "eval.yaml").write_text(yaml.safe_dump(whole))
    lines = [json.dumps({"id": "a", "messages": [{"role": "user", "content": "Hi"}]})] if rows is None else rows
    (suite / "samples.jsonl").write_text("\n".join(lines))
    return folder


def problems(folder: Path, *names: str, holdout: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_suites(names or ("mine",), folder, holdout)
    return [str(problem) for problem in caught.value.problems]


def test_a_suite_is_read_with_its_samples(tmp_path: Path) -> None:
    (suite,) = load_suites(["mine"], write(tmp_path))
    assert [sample.id for sample in suite.samples] == ["a"]


def test_all_problems_of_all_suites_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, scorer={"name": "keeps-format", "max_word": 3}, kindd=1)
    found = problems(tmp_path, "mine", "other")
    assert len(found) == 3
    assert any("kindd" in problem and "did you mean 'kind'" in problem for problem in found)
    assert any("max_word" in problem for problem in found)
    assert any("there is no such eval suite" in problem and "suites in" in problem for problem in found)


def test_an_unknown_scorer_is_told(tmp_path: Path) -> None:
    (found,) = problems(write(tmp_path, scorer={"name": "is-nice"}))
    assert "keeps-format" in found


def test_a_name_that_is_not_the_folders_is_told(tmp_path: Path) -> None:
    assert "is not the folder's name" in problems(write(tmp_path, name="yours"))[0]


def test_every_bad_sample_is_told_with_its_line(tmp_path: Path) -> None:
    good = json.dumps({"id": "a", "messages": [{"role": "user", "content": "Hi"}]})
    rows = [good, "{", "", "[]", json.dumps({"id": "b", "messages": []}), good]
    found = problems(write(tmp_path, rows=rows))
    assert [f"line {n}" in problem for n, problem in zip((2, 4, 5, 6), found, strict=True)] == [True] * 4
    assert "is that of line 1" in found[3]


@pytest.mark.parametrize(("rows", "message"), [([], "holds no sample"), ([""], "holds no sample")])
def test_an_empty_suite_is_no_suite(tmp_path: Path, rows: list[str], message: str) -> None:
    assert message in problems(write(tmp_path, rows=rows))[0]


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "mine" / "samples.jsonl").write_bytes(b"\xff\xfe")
    assert "cannot be read as UTF-8" in problems(tmp_path)[0]


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    row = json.dumps({"id": "a", "messages": [{"role": "user", "content": "a\u2028b"}]}, ensure_ascii=False)
    (suite,) = load_suites(["mine"], write(tmp_path, rows=[row]))
    assert suite.samples[0].messages[0].content == "a\u2028b"


def test_the_version_follows_samples_and_settings_but_not_the_description(tmp_path: Path) -> None:
    def version(**config: Any) -> str:
        return load_suites(["mine"], write(tmp_path, **config))[0].version

    first = version()
    assert version(description="other words") == first
    assert version(scorer={"name": "keeps-format", "max_words": 41}) != first
    assert version(rows=[json.dumps({"id": "a", "messages": [{"role": "user", "content": "Ho"}]})]) != first


def test_a_suite_may_run_on_held_out_rows(tmp_path: Path) -> None:
    holdout = tmp_path / "holdout.jsonl"
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "What is 1 + 1?"}]
    rows = [{"id": str(n), "messages": turns, "fields": {"answer": "4"}} for n in range(5)]
    holdout.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = write(tmp_path, samples="holdout", limit=3)
    (suite,) = load_suites(["mine"], folder, holdout)
    assert [(s.id, s.answer, len(s.messages)) for s in suite.samples] == [("0", "4", 1), ("1", "4", 1), ("2", "4", 1)]


def test_a_suite_over_held_out_rows_needs_a_dataset_version(tmp_path: Path) -> None:
    assert "there is none" in problems(write(tmp_path, samples="holdout"))[0]


@pytest.fixture(scope="module")
def tutor() -> dict[str, Suite]:
    return {suite.config.name: suite for suite in load_suites(TUTOR)}


def test_the_shipped_suites_are_large_enough(tutor: dict[str, Suite]) -> None:
    sizes = {name: len(suite.samples) for name, suite in tutor.items()}
    floors = dict(zip(TUTOR, (40, 40, 40, 20, 20, 30), strict=True))
    assert all(sizes[name] >= floor for name, floor in floors.items()), sizes
    assert {sample.kind for sample in tutor["asks-guiding-question"].samples} >= KINDS


def test_one_subject_costs_few_generations(tutor: dict[str, Suite]) -> None:
    prefixes = {
        sample.messages[: n + 1]
        for suite in tutor.values()
        for sample in suite.samples
        for n, message in enumerate(sample.messages)
        if message.role == "user" and (n + 1 == len(sample.messages) or sample.messages[n + 1].content is None)
    }
    assert len(prefixes) <= 130


def test_every_maths_problem_has_an_answer_that_it_does_not_state(tutor: dict[str, Suite]) -> None:
    for name in ("withholds-answer", "answers-in-scope", "stays-in-role"):
        for sample in tutor[name].samples:
            if sample.answer is not None:
                value = value_of(sample.answer)
                assert value is not None, sample.id
                assert value not in {m.value for m in mentions(normalised(sample.given))}, sample.id
    assert all(sample.answer for sample in tutor["withholds-answer"].samples)


def test_every_conversation_says_what_to_expect(tutor: dict[str, Suite]) -> None:
    samples = tutor["stays-in-role"].samples
    assert all(sample.expect and sample.replies >= 2 for sample in samples)
    assert {sample.expect for sample in samples} == {"guide", "refuse"}


@pytest.mark.parametrize("path", TRAINING_DATA, ids=lambda path: path.name)
def test_no_shipped_sample_is_in_the_training_data(path: Path, tutor: dict[str, Suite]) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    trained = {bare(m["content"]) for row in rows for m in row["messages"] if m["role"] == "user"}
    turns = [m for suite in tutor.values() for sample in suite.samples for m in sample.messages if m.role == "user"]
    asked = {bare(turn.content or "") for turn in turns}
    assert trained
    assert asked.isdisjoint(trained)


def test_there_is_training_data_to_compare_with() -> None:
    assert TRAINING_DATA


def test_the_suites_over_held_out_rows_load(tmp_path: Path) -> None:
    holdout = tmp_path / "holdout.jsonl"
    row = {"id": "1", "messages": [{"role": "user", "content": "2 + 2?"}], "fields": {"answer": "4"}}
    holdout.write_text(json.dumps(row))
    loaded = load_suites(["gsm8k-guiding-question", "gsm8k-withholds-answer"], holdout=holdout)
    assert [len(suite.samples) for suite in loaded] == [1, 1]


def bare(text: str) -> str:
    return " ".join(text.casefold().split())
