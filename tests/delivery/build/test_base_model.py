"""What a base model's small files say against it, before anything is spent."""

import pytest

from configs.training import LoraSettings, TrainingConfig
from delivery.build.base_model import (
    context_tokens,
    problems_with_architecture,
    problems_with_base,
    problems_with_tokenizer,
)
from delivery.build.memory import lora_weights, problems_with_memory, training_memory

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
}
SHAPES = {
    "model.embed_tokens.weight": (49152, 576),
    "model.layers.0.self_attn.q_proj.weight": (576, 576),
    "model.layers.0.mlp.up_proj.weight": (1536, 576),
    "model.norm.weight": (576,),
}


def found(config=CONFIG, shapes=SHAPES, token_ids=49152, context=2048):
    return [str(problem) for problem in problems_with_base(config, shapes, token_ids, context)]


def test_a_model_that_fits_has_no_problem():
    assert found() == []


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_refused():
    (problem,) = found(token_ids=49200)
    assert "tokens up to 49199, and the embedding has 49152 rows" in problem
    assert found(shapes={}, token_ids=49200) != []  # then by config.json


def test_a_context_beyond_what_the_model_was_made_for_is_refused_with_the_longest():
    (problem,) = found(context=4096)
    assert "model.yaml: max_context_tokens: 4096 is above the 2048 tokens" in problem
    assert "set it to at most 2048" in problem


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({}, None),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 8192}}, 8192),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}}, 8192),
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
    ],
)
def test_the_longest_context_is_read_off_the_configuration(config, longest):
    assert context_tokens(config) == longest


def test_a_model_whose_prompts_vllm_writes_itself_is_refused():
    assert "Harmony" in found(CONFIG | {"model_type": "gpt_oss"})[0]


def test_an_architecture_without_lora_is_named_and_an_unknown_one_is_not():
    assert problems_with_architecture(CONFIG, {"LlamaForCausalLM": True}) == []
    assert problems_with_architecture(CONFIG, {"LlamaForCausalLM": None}) == []
    (problem,) = problems_with_architecture({"architectures": ["GPT2LMHeadModel"]}, {"GPT2LMHeadModel": False})
    assert "cannot serve a LoRA on GPT2LMHeadModel" in str(problem)


def test_a_mistral_folder_is_served_by_the_template_only_if_vllm_is_told_so():
    files = ["consolidated.safetensors", "tekken.json", "tokenizer.json"]
    assert "--tokenizer-mode, hf" in str(problems_with_tokenizer(files, ())[0])
    assert problems_with_tokenizer(files, ("--tokenizer-mode", "hf")) == []
    assert problems_with_tokenizer(["model.safetensors", "tekken.json"], ()) == []


def test_the_estimate_of_memory_grows_with_what_is_trained_and_counts_the_loras_weights_exactly():
    small = TrainingConfig(lora=LoraSettings(rank=4))
    assert lora_weights(SHAPES, small) == 4 * (576 + 576 + 1536 + 576)
    assert lora_weights(SHAPES, TrainingConfig(lora=LoraSettings(rank=4, target_modules=("q_proj",)))) == 4 * 1152

    def total(in_parts=True, **changes):
        return training_memory(CONFIG, SHAPES, small.model_copy(update=changes), 2, in_parts).total

    assert total() < total(method="dpo")
    assert total(batch_size=64) == total()  # in parts
    assert total(in_parts=False) < total(in_parts=False, batch_size=64)
    assert total() < total(max_sequence_tokens=4096)


def test_a_training_that_no_memory_here_can_hold_is_refused_with_the_parts():
    estimate = training_memory(CONFIG, SHAPES, TrainingConfig(), 2, True)
    assert problems_with_memory(estimate, 64 * 2**30) == []
    (problem,) = problems_with_memory(estimate, 2**30)
    assert "this machine has 1.0 GiB" in str(problem)
    assert "program 1.0, weights 0.1" in str(problem)
