"""Tiny random models of real architectures, with the tokenizers of their families where these are at hand.

SLIPWAY_TOKENIZERS names a folder with one folder a tokenizer, each with tokenizer.json and tokenizer_config.json.
CONTRIBUTING.md says where some can be had. vLLM's environment brings Mistral's.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = "SLIPWAY_TOKENIZERS"
CONTEXT_TOKENS = 2048
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT_TOKENS,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,  # at 0.02 so small a model says nothing that a LoRA could change
}
LATENT = {  # what DeepSeek's attention and experts have instead
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 64,
    "first_k_dense_replace": 1,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


@dataclass(frozen=True)
class Family:
    """`config` is a class of transformers, `tokenizer` a folder; `template` is one of TRL's, for those without one."""

    config: str
    tokenizer: str
    stop: str
    template: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


FAMILIES = {
    "qwen3": Family("Qwen3Config", "qwen3", "<|im_end|>"),
    "qwen3_instruct_2507": Family("Qwen3Config", "qwen3", "<|im_end|>", "qwen3_instruct_2507"),
    "qwen2_5": Family("Qwen2Config", "qwen3", "<|im_end|>", "qwen2_5"),  # a subset of Qwen3's vocabulary
    "llama2": Family("LlamaConfig", "llama2", "</s>"),
    "llama3": Family("LlamaConfig", "llama3", "<|eot_id|>"),
    "llama3_1": Family("LlamaConfig", "llama3_1", "<|eot_id|>"),
    "llama3_2": Family("LlamaConfig", "llama3_1", "<|eot_id|>", "llama3_2"),  # the same tokenizer
    "gemma2": Family("Gemma2Config", "gemma3", "<end_of_turn>", "gemma", {"query_pre_attn_scalar": 32}),
    "gemma3": Family("Gemma3TextConfig", "gemma3", "<end_of_turn>", settings={"query_pre_attn_scalar": 32}),
    "deepseek_r1_distill": Family("Qwen2Config", "deepseek_v3", "<｜end▁of▁sentence｜>", "deepseek_r1_distill"),
    "deepseek_v3": Family("DeepseekV3Config", "deepseek_v3", "<｜end▁of▁sentence｜>", "deepseekv3", LATENT),
    "gptoss": Family("GptOssConfig", "gptoss", "<|return|>", settings=EXPERTS),
}


def tokenizer_folder(family: Family) -> Path | None:
    """Where its tokenizer lies; None where it is not at hand."""
    named = os.environ.get(FOLDER, "")
    folder = Path(named).absolute() / family.tokenizer
    return folder if named and (folder / "tokenizer.json").is_file() else None


def save_real_model(folder: Path, family: Family, tokenizer: Path) -> Path:
    """A random model with as many embeddings as the tokenizer has tokens; in bf16, for most of it is embeddings."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    if family.template:
        _write_template(folder, family.template)
    found = transformers.AutoTokenizer.from_pretrained(folder)
    stop = found.convert_tokens_to_ids(family.stop)
    assert isinstance(stop, int), f"{family.tokenizer} has no token {family.stop}"
    ids = {"bos_token_id": found.bos_token_id, "eos_token_id": stop, "pad_token_id": found.pad_token_id}
    settings = {**SMALL, **family.settings, **ids, "vocab_size": -(-len(found) // 64) * 64}
    config = getattr(transformers, family.config)(**settings)
    torch.manual_seed(3)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def _write_template(folder: Path, name: str) -> None:
    import trl

    text = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
