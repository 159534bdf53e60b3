"""A training goes on from an adapter of the same kind alone; each difference is named."""

import pytest

from configs.training import LoraSettings, TrainingConfig
from delivery.build.bundle import Adapter, Bundle
from delivery.build.continued import differences, seen, trained_prompts

CONFIG = TrainingConfig(lora=LoraSettings(rank=8, alpha=16, target_modules=("q_proj", "v_proj")))


def parent(config: TrainingConfig = CONFIG, revision: str = "sha256:base") -> Bundle:
    return Bundle(
        route="tutor",
        base_model="base",
        base_revision=revision,
        adapter=Adapter(digest="sha256:" + "a" * 64, rank=config.lora.rank, files={}),
        dataset_version=None,
        dataset_code=None,
        training=config.model_dump(mode="json"),
        system_prompt="",
        temperature=0.0,
        max_tokens=8,
    )


def test_the_same_lora_can_go_on_whatever_else_is_set():
    same = LoraSettings(rank=8, alpha=16, dropout=0.1, target_modules=("v_proj", "q_proj"))
    assert differences(parent(), CONFIG.model_copy(update={"lora": same, "learning_rate": 1e-5}), "sha256:base") == []


def test_all_differences_are_named_at_once():
    other = CONFIG.model_copy(update={"lora": LoraSettings(rank=4, alpha=8, rslora=True)})
    found = differences(parent(), other, "sha256:new")
    assert [(one.where, one.what) for one in found] == [
        ("base model", "revision sha256:base then, sha256:new now"),
        ("training.yaml: lora.rank", "8 then, 4 now"),
        ("training.yaml: lora.alpha", "16 then, 8 now"),
        ("training.yaml: lora.target_modules", "['q_proj', 'v_proj'] then, all-linear now"),
        ("training.yaml: lora.rslora", "False then, True now"),
    ]
    assert found[3].cure == "lora: {target_modules: [q_proj, v_proj]}"


@pytest.mark.parametrize("name", ["messages", "prompt"])
def test_a_held_out_prompt_that_was_trained_on_is_found_whatever_its_case_and_marks(name):
    def row(number, text):
        return {"id": number, name: [{"role": "system", "content": "s"}, {"role": "user", "content": text}]}

    prompts = trained_prompts([row("1", "How many apples?"), row("2", "Why?")])
    assert seen([row("3", "how  many apples"), row("4", "Who?")], prompts) == ["3"]


def test_a_bundle_that_began_with_the_base_model_has_the_digest_that_it_had():
    plain = parent()
    assert "continue_from" not in plain.training
    assert plain.continued_from is None
    went_on = CONFIG.model_copy(update={"continue_from": plain.digest})
    assert parent(went_on).continued_from == plain.digest
    assert parent(went_on).digest != plain.digest
