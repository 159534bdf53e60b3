"""The recipe over real data, without a model: what is trained on, what is held out, and what the suites will ask of it.

Tokens are words here, as in the other tests of datasets: the base model's own tokenizer takes ten seconds to come out
of its package, and rejects the same two rows. Reads the folder that SLIPWAY_DATA names, else the one beside the
repository; skipped where neither has the problems.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from configs.project import Project, load_project
from delivery.build.dataset import DatasetVersion
from evals.samples import Reply, Sample
from evals.scorers.kinds import scorer
from evals.suites import Suite, load_suites
from tasks.data.dataset import build_dataset
from tasks.evals.capability import shipped_tasks

ROOT = ROOT
DATA = Path(os.environ.get("SLIPWAY_DATA") or ROOT.parent / "shared" / "data").absolute()
PROBLEMS = DATA / "gsm8k-socratic" / "problems.jsonl"

pytestmark = pytest.mark.skipif(not PROBLEMS.is_file(), reason=f"no {PROBLEMS}: SLIPWAY_DATA names the data's folder")


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project(ROOT / "configs" / "gsm8k")


@pytest.fixture(scope="module")
def version(project: Project, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_DATA", str(DATA))
        return build_dataset(project.dataset, project.dataset_folder, tokenizer_folder, project.prompts.adapter, home)


@pytest.fixture(scope="module")
def suites(project: Project, version: DatasetVersion) -> Sequence[Suite]:
    return load_suites(project.evals.behaviour, holdout=version.folder / "holdout.jsonl")


def rows(version: DatasetVersion, part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (version.folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]


def said(row: dict[str, Any], role: str) -> str:
    [text] = [message["content"] for message in row["messages"] if message["role"] == role]
    return str(text)


def test_of_1000_problems_200_are_held_out_and_the_others_trained_on_but_for_two_that_ask_nothing(
    version: DatasetVersion,
) -> None:
    manifest = version.manifest
    assert (manifest.read, manifest.kept, manifest.duplicates, manifest.rejected) == (1000, 998, 0, {"no-question": 2})
    assert [row["row"] for row in rows(version, "rejected")] == [25, 89]  # "Define a variable", "Simplify" ...
    problems = {part: {said(row, "user") for row in rows(version, part)} for part in ("train", "holdout")}
    assert {part: len(found) for part, found in problems.items()} == {"train": 798, "holdout": 200}
    assert not problems["train"] & problems["holdout"]


def test_a_row_is_a_problem_and_a_first_guiding_question_without_the_result(version: DatasetVersion) -> None:
    for row in [*rows(version, "train"), *rows(version, "holdout")]:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert said(row, "assistant").endswith("?")
        assert math.isfinite(float(row["fields"]["answer"]))


def test_both_suites_ask_the_held_out_problems_alone(version: DatasetVersion, suites: Sequence[Suite]) -> None:
    held = [said(row, "user") for row in rows(version, "holdout")]
    assert [suite.config.name for suite in suites] == ["gsm8k-guiding-question", "gsm8k-withholds-answer"]
    for suite in suites:
        assert [sample.given for sample in suite.samples] == held
        assert all(sample.replies == 1 and sample.fields["answer"] for sample in suite.samples)


def test_the_suites_tell_the_datas_own_questions_from_its_solutions(
    version: DatasetVersion, suites: Sequence[Suite]
) -> None:
    guides, withholds = (scorer(suite.scorer) for suite in suites)
    own = {row["id"]: said(row, "assistant") for row in rows(version, "holdout")}

    def share(score: Any, reply: Any) -> float:
        values = [score(sample, (Reply(reply(sample)),)).score for sample in suites[0].samples]
        return sum(values) / len(values)

    def question(sample: Sample) -> str:
        return own[sample.id]

    def solution(sample: Sample) -> str:
        return f"First you add the two numbers, so the answer is {sample.fields['answer']}."

    assert share(guides, question) >= 0.99
    assert share(withholds, question) == 1
    assert share(guides, solution) == 0
    assert share(withholds, solution) == 0


def test_the_capability_tasks_find_their_400_questions_each(project: Project) -> None:
    names = sorted({entry.task for entry in project.evals.capability})
    assert sorted(shipped_tasks(names, {"SLIPWAY_DATA": str(DATA)})) == names == ["local_arc_easy", "local_piqa"]
    for name in names:
        file = DATA / "capability" / f"{name.removeprefix('local_')}.jsonl"
        questions = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert len(questions) == 400
        assert all(0 <= question["gold"] < len(question["choices"]) for question in questions)
