"""Training on the test: a version is compared with the suites that are to judge it."""

import json

import pytest
from places import ROOT

from configs.dataset import DatasetRecipe
from configs.evals import EvalsConfig
from configs.project import load_project
from tasks.data.dataset import build_dataset, read_version
from tasks.data.overlap import eval_overlap, write_matches

EVALS = ROOT / "evals"


@pytest.fixture
def build(tmp_path, tokenizer_folder):
    def _build(prompts, folder=tmp_path, **recipe):
        rows = [{"prompt": prompt, "completion": "Why?"} for prompt in prompts]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = {"name": "sums", "sources": [{"path": "rows.jsonl"}], "split": {"holdout_prompts": 1}} | recipe
        recipe = DatasetRecipe.model_validate(settings)
        return build_dataset(recipe, folder, tokenizer_folder, "Be brief.", tmp_path / "home")

    return _build


def config(*behaviour: str, capability=()) -> EvalsConfig:
    gated = behaviour[0] if behaviour else "slipway_science"
    gates = [{"suite": gated, "min_score": 0.5}]
    return EvalsConfig.model_validate({"behaviour": behaviour, "capability": capability, "gates": gates})


def questions(suite: str) -> list[str]:
    lines = (EVALS / suite / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"][0]["content"] for line in lines]


def test_the_questions_of_a_suite_as_rows_are_found_all_but_those_held_out(build):
    asked = questions("asks-guiding-question")
    version = build([text.rstrip("?") for text in asked] + ["Something else"])
    held = version.manifest.parts["holdout"].prompts
    found = eval_overlap(version, config("asks-guiding-question"))
    assert len(asked) - held <= found.by_suite()["asks-guiding-question"] <= len(asked)


def test_the_capability_tasks_questions_are_compared_too_and_foreign_tasks_are_named(build):
    lines = (EVALS / "capability" / "slipway_science.jsonl").read_text(encoding="utf-8").splitlines()
    queries = [json.loads(line)["query"] for line in lines]
    version = build([f"Question: {query}" for query in queries[:9]] + queries[9:12])
    found = eval_overlap(version, config(capability=[{"task": "slipway_science"}, {"task": "arc_easy"}]))
    assert found.by_suite()["slipway_science"] >= 2
    assert found.asked == {"slipway_science": len(queries)}
    assert found.not_compared == ("arc_easy",)


@pytest.mark.parametrize("name", ["tutor", "tutor-giveaway"])
def test_the_shipped_projects_train_on_no_question_of_their_suites(name, tokenizer_folder, tmp_path):
    project = load_project(ROOT / "configs" / name)
    prompt = project.prompts.adapter
    version = build_dataset(project.dataset, project.dataset_folder, tokenizer_folder, prompt, tmp_path)
    found = eval_overlap(version, project.evals)
    assert found.found == ()
    assert sum(found.asked.values()) > 200


def test_a_suite_over_the_held_out_rows_is_left_out(build):
    assert eval_overlap(build(["a", "b", "c"]), config("gsm8k-guiding-question")).asked == {}


def test_every_match_is_written_beside_the_version_which_stays_as_it_was(build):
    asked = questions("asks-guiding-question")
    version = build([*asked[:6], asked[0] + " Tell me.", "Something else"])
    found = eval_overlap(version, config("asks-guiding-question"))
    path = write_matches(version, found)
    listed = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert path.parent == version.folder.parent
    assert len(listed) == len(found.matches) >= len(found.found) >= 5
    assert set(listed[0]) == {"suite", "sample", "row", "share", "question"}
    assert read_version(version.folder.parents[1], version.digest) == version
    assert write_matches(version, eval_overlap(version, config("gsm8k-guiding-question"))) is None
