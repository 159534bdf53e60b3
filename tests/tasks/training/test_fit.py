"""Base model, template, prompts and settings are held against each other before anything is spent."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chat_templates import templates
from safetensors.numpy import save_file
from stub_project import stub_project
from tiny_model import CHATML, tiny_tokenizer

from configs.errors import SlipwayError, require_all
from configs.training import LoraSettings
from tasks.preflight import before_build
from tasks.training.fit import estimate_memory, problems_with_fit

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "vocab_size": 272,
    "max_position_embeddings": 8192,
}


def model(folder: Path, template: str = CHATML, rows: int = 272, **config) -> Path:
    tiny_tokenizer(template).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    weights = {
        "model.embed_tokens.weight": np.zeros((rows, 8), "float32"),
        "model.layers.0.self_attn.q_proj.weight": np.zeros((8, 8), "float32"),
    }
    save_file(weights, folder / "model.safetensors")
    return folder


def project(tmp_path, **files):
    return stub_project(tmp_path, model=model(tmp_path / "model"), **files)


def said(project, folder):
    return [str(problem) for problem in problems_with_fit(project, folder)]


def test_a_model_that_fits_is_said_nothing_about(tmp_path):
    assert said(project(tmp_path), tmp_path / "model") == []


def test_a_template_without_system_role_is_no_problem_and_one_that_refuses_all_is(tmp_path):
    stub = project(tmp_path)
    assert said(stub, model(tmp_path / "gemma", templates()["gemma"])) == []
    (problem,) = said(stub, model(tmp_path / "none", "{{ raise_exception('no chat here') }}"))
    assert "no chat here" in problem


def test_all_that_does_not_fit_is_said_at_once_before_the_build_starts(tmp_path):
    stub = project(tmp_path)
    dated = CHATML.replace("{% for", "{{ strftime_now('%d') }}{% for", 1)
    wrong = model(tmp_path / "wrong", dated, rows=100, max_position_embeddings=2048)
    training = stub.training.model_copy(update={"lora": LoraSettings(target_modules=("c_attn",))})
    stub = replace(stub, model=stub.model.model_copy(update={"path": wrong}), training=training)
    with pytest.raises(SlipwayError) as caught:
        require_all("the build cannot start", before_build(stub, tmp_path / "home"))
    text = caught.value.render()
    for word in ("the embedding has 100 rows", "above the 2048 tokens", "no linear layer named c_attn", "day's date"):
        assert word in text


@pytest.mark.skipif(not Path(".venv-vllm/bin/python").exists(), reason="vLLM is not set up")
def test_an_architecture_that_carries_no_lora_is_known_by_the_vllm_at_hand(tmp_path):
    stub = project(tmp_path)
    vllm = stub.environment.vllm.model_copy(update={"python": Path(".venv-vllm/bin/python")})
    stub = replace(stub, environment=stub.environment.model_copy(update={"vllm": vllm}))
    assert said(stub, tmp_path / "model") == []
    (problem,) = said(stub, model(tmp_path / "gpt2", architectures=["GPT2LMHeadModel"]))
    assert "vLLM cannot serve a LoRA on GPT2LMHeadModel" in problem


def test_the_memory_that_a_training_needs_is_estimated(tmp_path):
    estimate = estimate_memory(project(tmp_path), tmp_path / "model")
    assert 1.0 < estimate.total / 2**30 < 2.0  # hardly more than the program itself
    assert estimate.render().startswith("1.")
