"""vLLM's rules for adapters, told before training and from the files afterwards."""

import pytest

from configs.training import LoraSettings, TrainingConfig
from delivery.build.servable import linear_modules, problems_with, problems_with_files, problems_with_settings

MODULES = {"q_proj", "k_proj", "up_proj"}
NAMES = [
    f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{side}.weight"
    for layer in range(2)
    for module in ("q_proj", "k_proj")
    for side in "AB"
]
PLAIN = {
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "k_proj"],
    "bias": "none",
    "modules_to_save": None,
    "use_dora": False,
    "use_rslora": False,
    "init_lora_weights": True,
    "rank_pattern": {},
}


def found(changes=None, names=NAMES, rank=16, modules=MODULES):
    return [str(problem) for problem in problems_with(PLAIN | (changes or {}), names, rank, modules)]


def test_a_plain_lora_is_servable():
    assert found() == []
    assert found(modules=None) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 16}, "alpha_pattern": {"q_proj": 4}},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"target_modules": "all-linear"},
    ],
)
def test_what_vllm_does_serve_is_not_refused(changes):
    assert found(changes) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"lora_bias": True}, "bias in the LoRA layers"),
        ({"modules_to_save": ["lm_head"]}, "whole modules: lm_head"),
        ({"init_lora_weights": "pissa"}, "pissa changes the base model's weights"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": "loftq"}, "loftq"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"r": 17}, "rank 17 is above vLLM's max_lora_rank 16"),
        ({"rank_pattern": {"q_proj": 32}}, "rank 32 is above"),
        ({"r": 0}, "no positive whole number"),
        ({"alora_invocation_tokens": [1]}, "Activated LoRA"),
        ({"layer_replication": [[0, 2]]}, "layer replication"),
        ({"use_qalora": True}, "QALoRA"),
        ({"trainable_token_indices": [3]}, "trained token embeddings"),
        ({"target_modules": ["q_proj", "k_proj", "v_proj"]}, "v_proj named, but without weights"),
    ],
)
def test_what_vllm_refuses_is_refused_with_its_name(changes, word):
    (problem,) = found(changes)
    assert word in problem


def test_all_problems_come_at_once():
    assert len(found({"use_dora": True, "bias": "all", "r": 64})) == 3


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ([], "no tensor"),
        ([*NAMES, "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"], "lora_magnitude_vector"),
        ([*NAMES, "base_model.model.lm_head.weight"], "lm_head.weight"),
        (NAMES[:-1], "only one of lora_A and lora_B"),
        ([n.replace("k_proj", "w_pack") for n in NAMES], "no module named w_pack"),
    ],
)
def test_unexpected_tensors_are_refused(names, word):
    assert any(word in problem for problem in found({"target_modules": "all-linear"}, names=names))


def test_a_file_that_is_no_lora_configuration_is_named():
    assert "r, lora_alpha missing" in str(problems_with({"target_modules": []}, NAMES, 16)[0])


def test_pickled_weights_are_refused():
    names = ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors"]
    assert [problem.where for problem in problems_with_files(names)] == ["adapter_model.bin"]


def test_settings_are_judged_before_training():
    def problems(**settings):
        config = TrainingConfig(lora=LoraSettings(**settings))
        return [str(problem) for problem in problems_with_settings(config, MODULES, max_lora_rank=16)]

    assert problems() == []
    assert problems(target_modules=("q_proj",)) == []
    assert "rank 32 is above" in problems(rank=32)[0]
    assert "no linear layer named c_attn" in problems(target_modules=("q_proj", "c_attn"))[0]
    assert len(problems(rank=32, target_modules=("c_attn",))) == 2


def test_linear_layers_are_read_off_the_base_models_weights():
    shapes = {
        "model.embed_tokens.weight": (100, 8),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.mlp.up_proj.weight": (16, 8),
        "model.layers.0.input_layernorm.weight": (8,),
        "model.layers.0.self_attn.q_proj.bias": (8,),
    }
    assert linear_modules(shapes) == {"embed_tokens", "q_proj", "up_proj"}
