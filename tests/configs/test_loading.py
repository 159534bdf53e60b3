"""Whoever writes a wrong setting is told where, what was found and what to write instead, all of it at once."""

import pickle
from pathlib import Path

import pytest
import yaml

from configs.dataset import DatasetRecipe
from configs.environment import Environment
from configs.errors import ConfigError
from configs.loading import check, load
from configs.rollout import RolloutPlan
from configs.training import TrainingConfig


def written(tmp_path: Path, content: str | bytes | dict, name="settings.yaml") -> Path:
    path = tmp_path / name
    if isinstance(content, dict):
        content = yaml.safe_dump(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems(tmp_path, model, content) -> list[str]:
    value, found = check(written(tmp_path, content), model)
    assert value is None
    return [str(problem).replace(str(tmp_path) + "/", "") for problem in found]


def test_a_good_file_becomes_a_model(tmp_path):
    assert load(written(tmp_path, {"epochs": 2, "lora": {"rank": 8}}), TrainingConfig).lora.rank == 8


def test_all_problems_of_a_file_come_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, {"epochs": "many", "lora": {"rnak": 8}, "sed": 1, "batch_size": 0}), TrainingConfig)
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    for part in ("epochs", "found 'many'", "lora.rnak", "did you mean 'rank'?", "did you mean 'seed'?", "batch_size"):
        assert part in text


@pytest.mark.parametrize(
    ("model", "content", "where", "cure"),
    [
        (TrainingConfig, {"learning_rat": 1}, "settings.yaml: learning_rat", "did you mean 'learning_rate'?"),
        (TrainingConfig, {"lora": {"alfa": 1}}, "settings.yaml: lora.alfa", "did you mean 'alpha'?"),
        (Environment, {"vllm": {"prot": 1}}, "settings.yaml: vllm.prot", "did you mean 'port'?"),
        (
            DatasetRecipe,
            {"name": "a", "sources": [{"path": "a", "raeder": "messages"}], "split": {"holdout_prompts": 1}},
            "settings.yaml: sources.0.raeder",
            "did you mean 'reader'?",
        ),
        (
            Environment,
            {"zzz": 1},
            "settings.yaml: zzz",
            "known keys: control_room, gateway, gitops, ledger_url, name, notifications, registry, retention, "
            "signatures, store, target, vllm",
        ),
    ],
)
def test_an_unknown_key_is_told_its_nearest_neighbour(tmp_path, model, content, where, cure):
    [problem] = problems(tmp_path, model, content)
    assert problem == f"{where}: unknown key\n    -> {cure}"


def test_a_key_that_is_known_elsewhere_only_is_not_suggested(tmp_path):
    [problem] = problems(tmp_path, TrainingConfig, {"rank": 8})
    assert "known keys: batch_size" in problem


def test_what_a_validator_advises_stands_apart(tmp_path):
    split = {"holdout_prompts": 1, "holdout_share": 0.5}
    [problem] = problems(tmp_path, DatasetRecipe, {"name": "a", "sources": [{"path": "a"}], "split": split})
    assert problem.startswith("settings.yaml: split: exactly one of holdout_share, holdout_prompts is needed")
    assert problem.endswith("\n    -> keep one of them")


def test_a_missing_setting_is_named(tmp_path):
    found = problems(tmp_path, RolloutPlan, {"tick_s": 1})
    assert found == ["settings.yaml: stages: required, but missing", "settings.yaml: checks: required, but missing"]


@pytest.mark.parametrize("value", ["true", "[1, 2]", "{a: 1}", "'fast'", ".nan", ".inf", "2026-11-21", "~"])
def test_a_wrong_type_shows_what_was_found(tmp_path, value):
    [problem] = problems(tmp_path, TrainingConfig, f"learning_rate: {value}")
    assert problem.startswith("settings.yaml: learning_rate: ")
    assert "found " in problem


def test_a_single_value_where_a_list_belongs_is_told_how_to_write_one(tmp_path):
    content = {"name": "a", "sources": [{"path": "a"}], "split": {"holdout_prompts": 1}, "review": {"people": "ann"}}
    [problem] = problems(tmp_path, DatasetRecipe, content)
    assert problem.startswith("settings.yaml: review.people: a list is needed, found 'ann'")
    assert "write [A, B]" in problem


def test_a_number_with_an_exponent_but_without_a_point_is_still_a_number(tmp_path):
    # YAML 1.1 reads 5e-4 as text
    assert load(written(tmp_path, "learning_rate: 5e-4"), TrainingConfig).learning_rate == 5e-4


def test_a_key_that_is_given_twice_is_refused(tmp_path):
    [problem] = problems(tmp_path, TrainingConfig, "epochs: 1\nbatch_size: 4\nepochs: 2\n")
    assert "line 3" in problem
    assert "'epochs' is given twice" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a mapping (key: value), found nothing"),
        (b"- a\n- b\n", "expected a mapping (key: value), found a list"),
        (b"epochs: [1\nseed: 2\n", "settings.yaml: line 2, column 5: not valid YAML"),
        (b"epochs: 1\n\tseed: 2\n", "settings.yaml: line 2, column 1: not valid YAML"),
        (b"epochs: \xff\n", "settings.yaml: not UTF-8 at byte 8"),
        (b"epochs: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"epochs: \x00\n", "not valid YAML"),
        (b"1: 2\n", "settings.yaml: 1: Keys should be strings"),
        (b"hello\n", "found 'hello'"),
    ],
)
def test_a_file_that_is_no_mapping_in_yaml_is_named_with_its_line(tmp_path, content, message):
    [problem] = problems(tmp_path, TrainingConfig, content)
    assert message in problem


def test_a_file_that_is_not_there_names_its_neighbours(tmp_path):
    written(tmp_path, {}, "model.yaml")
    _, [problem] = check(tmp_path / "training.yaml", TrainingConfig)
    assert "does not exist" in problem.what
    assert "model.yaml" in problem.cure
    _, [problem] = check(tmp_path / "nowhere" / "training.yaml", TrainingConfig)
    assert "there is no folder" in problem.cure
    _, [problem] = check(tmp_path, TrainingConfig)
    assert "directory" in problem.what


def test_an_error_survives_the_way_through_another_process(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, {"sed": 1}), TrainingConfig)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is ConfigError
    assert str(again) == str(caught.value)
