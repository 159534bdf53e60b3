"""Loading suites, and what the shipped ones promise."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.contract import Contract, Form
from configs.errors import ConfigError
from evals.numbers import mentions, normalised, value_of
from evals.results import measures_of, results_of
from evals.samples import Reply
from evals.scorers.kinds import scorer
from evals.suites import FOLDER, Suite, load_suites
from evals.versions import code_of

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
    whole = {"name": "mine", "description": "d", "scorer": {"name": "contains", "texts": ["a"]}} | config
    (suite / "eval.yaml").write_text(yaml.safe_dump(whole))
    lines = [json.dumps({"id": "a", "messages": [{"role": "user", "content": "Hi"}]})] if rows is None else rows
    (suite / "samples.jsonl").write_text("\n".join(lines))
    return folder


def problems(folder: Path, *names: str, holdout: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_suites(names or ("mine",), (folder,), holdout)
    return [str(problem) for problem in caught.value.problems]


def test_a_suite_is_read_with_its_samples(tmp_path: Path) -> None:
    (suite,) = load_suites(["mine"], (write(tmp_path),))
    assert [sample.id for sample in suite.samples] == ["a"]


def test_all_problems_of_all_suites_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, scorer={"name": "contains", "text": 3}, kindd=1)
    found = problems(tmp_path, "mine", "other")
    assert len(found) == 3
    assert any("kindd" in problem and "did you mean 'kind'" in problem for problem in found)
    assert any("text" in problem for problem in found)
    assert any("there is no such eval suite" in problem and "suites in" in problem for problem in found)


def test_an_unknown_scorer_is_told(tmp_path: Path) -> None:
    (found,) = problems(write(tmp_path, scorer={"name": "is-nice"}))
    assert "contains" in found


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
    (suite,) = load_suites(["mine"], (write(tmp_path, rows=[row]),))
    assert suite.samples[0].messages[0].content == "a\u2028b"


def test_the_version_follows_samples_and_settings_but_not_the_description(tmp_path: Path) -> None:
    def version(**config: Any) -> str:
        return load_suites(["mine"], (write(tmp_path, **config),))[0].version

    first = version()
    assert version(description="other words") == first
    assert version(scorer={"name": "contains", "texts": ["a"], "ignore_case": True}) != first
    assert version(rows=[json.dumps({"id": "a", "messages": [{"role": "user", "content": "Ho"}]})]) != first


def test_a_suite_may_run_on_held_out_rows(tmp_path: Path) -> None:
    holdout = tmp_path / "holdout.jsonl"
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "What is 1 + 1?"}]
    rows = [{"id": str(n), "messages": turns, "fields": {"answer": "4"}} for n in range(5)]
    holdout.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = write(tmp_path, samples="holdout", limit=3)
    (suite,) = load_suites(["mine"], (folder,), holdout)
    assert [(s.id, s.fields["answer"], len(s.messages)) for s in suite.samples] == [
        ("0", "4", 1),
        ("1", "4", 1),
        ("2", "4", 1),
    ]


def test_a_suite_over_held_out_rows_needs_a_dataset_version(tmp_path: Path) -> None:
    assert "there is none" in problems(write(tmp_path, samples="holdout"))[0]


@pytest.fixture(scope="module")
def tutor() -> dict[str, Suite]:
    return {suite.config.name: suite for suite in load_suites(TUTOR)}


def test_the_shipped_suites_are_large_enough(tutor: dict[str, Suite]) -> None:
    sizes = {name: len(suite.samples) for name, suite in tutor.items()}
    floors = dict(zip(TUTOR, (40, 40, 40, 20, 20, 30), strict=True))
    assert all(sizes[name] >= floor for name, floor in floors.items()), sizes
    assert {sample.fields.get("kind") for sample in tutor["asks-guiding-question"].samples} >= KINDS


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
            if (answer := sample.fields.get("answer")) is not None:
                value = value_of(str(answer))
                assert value is not None, sample.id
                assert value not in {m.value for m in mentions(normalised(sample.given))}, sample.id
    assert all(sample.fields["answer"] for sample in tutor["withholds-answer"].samples)


def test_every_conversation_says_what_to_expect(tutor: dict[str, Suite]) -> None:
    samples = tutor["stays-in-role"].samples
    assert all(sample.expected and sample.replies >= 2 for sample in samples)
    assert {sample.expected for sample in samples} == {"guide", "refuse"}


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


SCORERS = {
    "exact": {"name": "exact"},
    "json": {"name": "json"},
    "own": {"name": "function", "file": "../own.py", "function": "score"},
}


def three_suites(folder: Path, code: str = "def score(sample, replies): return 1\n") -> None:
    (folder / "own.py").write_text(code)
    for name, chosen in SCORERS.items():
        (folder / name).mkdir(exist_ok=True)
        config = {"name": name, "description": "d", "scorer": chosen}
        (folder / name / "eval.yaml").write_text(yaml.safe_dump(config))
        row = {"id": "a", "messages": [{"role": "user", "content": "Hi"}], "expected": "Ho"}
        (folder / name / "samples.jsonl").write_text(json.dumps(row))


def test_editing_one_scorer_changes_the_suites_that_use_it_and_no_others(tmp_path: Path) -> None:
    three_suites(tmp_path)
    before = {suite.config.name: suite.version for suite in load_suites(list(SCORERS), (tmp_path,))}
    three_suites(tmp_path, "def score(sample, replies): return 0\n")
    after = {suite.config.name: suite.version for suite in load_suites(list(SCORERS), (tmp_path,))}
    assert {name for name in SCORERS if before[name] != after[name]} == {"own"}


def test_a_scorers_code_is_its_own_file_and_what_this_imports(tmp_path: Path) -> None:
    three_suites(tmp_path, "from evals.wording import words\ndef score(sample, replies): return 1\n")
    exact, parsed, own = (set(code_of(suite.scorer)) for suite in load_suites(list(SCORERS), (tmp_path,)))
    assert {"evals.scorers.exact", "evals.scorers.score"} <= exact
    assert "evals.scorers.json_fields" not in exact
    assert {"evals.scorers.json_fields", "evals.contract"} <= parsed
    assert {"function", "evals.wording"} <= own
    assert not {"evals.scorers.exact", "evals.wording"} & (exact & own)


def test_a_contracts_detector_is_part_of_the_version(tmp_path: Path) -> None:
    def version(words: int) -> str:
        contract = Contract(detectors={"short": Form(kind="form", max_words=words)})
        folder = write(tmp_path, scorer={"name": "detector", "detector": "short"})
        return load_suites(["mine"], (folder,), contract=contract)[0].version

    assert version(3) == version(3) != version(4)
    with pytest.raises(ConfigError, match=r"write a contract\.yaml"):
        load_suites(["mine"], (tmp_path,))


def test_a_projects_own_suite_comes_before_a_shipped_one_of_that_name(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    own.mkdir()
    write(shipped)
    assert len(load_suites(["mine"], (own, shipped))) == 1
    write(own, description="ours")
    assert load_suites(["mine"], (own, shipped))[0].config.description == "ours"
    (problem,) = problems(shipped, "yours")
    assert f"suites in {shipped}: mine" in problem


def test_a_sample_that_nobody_could_judge_is_told_with_its_line(tmp_path: Path) -> None:
    (found,) = problems(write(tmp_path, scorer={"name": "choice", "labels": ["a", "b"]}))
    assert "line 1: the sample expects None; one of ['a', 'b'] is needed" in found


def test_a_wrong_field_of_held_out_rows_is_told_once_a_row_and_not_for_ever(tmp_path: Path) -> None:
    holdout = tmp_path / "holdout.jsonl"
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    holdout.write_text("".join(json.dumps({"id": str(n), "messages": turns, "fields": {}}) + "\n" for n in range(500)))
    folder = write(tmp_path, samples="holdout", expected="label", scorer={"name": "exact"})
    found = problems(folder, holdout=holdout)
    assert len(found) == 20
    assert "the row has no field 'label'" in found[0]


def test_a_suite_of_classes_has_a_result_for_each_measure(tmp_path: Path) -> None:
    rows = [
        json.dumps({"id": str(n), "messages": [{"role": "user", "content": "x"}], "expected": "ab"[n % 2]})
        for n in range(4)
    ]
    folder = write(tmp_path, rows=rows, scorer={"name": "choice", "labels": ["a", "b", "c"]})
    (suite,) = load_suites(["mine"], (folder,))
    score = scorer(suite.scorer)
    found = results_of(suite, [score(sample, (Reply("a"),)) for sample in suite.samples])
    figures = {name: result.score for name, result in found.items()}
    assert figures == {
        "mine": 0.5,
        "mine/macro_f1": pytest.approx(1 / 3),
        "mine/f1:a": pytest.approx(2 / 3),
        "mine/f1:b": 0,
        "mine/recall:a": 1,
        "mine/recall:b": 0,
    }
    assert set(found) <= set(measures_of(suite.config))
