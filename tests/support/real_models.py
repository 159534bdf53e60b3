"""Tiny random models of real architectures, with the tokenizers of their families where these are at hand.

SLIPWAY_TOKENIZERS names a folder with one folder a tokenizer, each with tokenizer.json and tokenizer_config.json.
CONTRIBUTING.md says where some can be had. Families without one there get letters and the template's control tokens.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chat_templates import templates, tokenizer_for

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
    """`config` is a class of transformers; `tokenizer` is a folder, or "" for letters.

    `template` is one that packages ship, for tokenizers that bring none.
    """

    config: str
    tokenizer: str
    stop: str
    template: str = ""
    before_stop: str = ""  # what the model says between its answer and the stop token
    settings: Mapping[str, Any] = field(default_factory=dict)


FAMILIES = {
    "qwen3": Family("Qwen3Config", "qwen3", "<|im_end|>"),
    "qwen3_instruct_2507": Family("Qwen3Config", "qwen3", "<|im_end|>", "qwen3_instruct_2507"),
    "qwen2_5": Family("Qwen2Config", "qwen3", "<|im_end|>", "qwen2_5"),  # a subset of Qwen3's vocabulary
    "llama2": Family("LlamaConfig", "llama2", "</s>", "llama2"),
    "llama3": Family("LlamaConfig", "llama3", "<|eot_id|>"),
    "llama3_1": Family("LlamaConfig", "llama3_1", "<|eot_id|>"),
    "llama3_2": Family("LlamaConfig", "llama3_1", "<|eot_id|>", "llama3_2"),  # the same tokenizer
    "gemma2": Family("Gemma2Config", "gemma3", "<end_of_turn>", "gemma", settings={"query_pre_attn_scalar": 32}),
    "gemma3": Family("Gemma3TextConfig", "gemma3", "<end_of_turn>", settings={"query_pre_attn_scalar": 32}),
    "deepseek_r1_distill": Family("Qwen2Config", "deepseek_v3", "<｜end▁of▁sentence｜>", "deepseek_r1_distill"),
    "deepseek_v3": Family("DeepseekV3Config", "deepseek_v3", "<｜end▁of▁sentence｜>", "deepseekv3", settings=LATENT),
    "mistral_v0_3": Family("MistralConfig", "mistral_v3", "</s>", "mistral_v0_3"),
    "mixtral": Family("MixtralConfig", "mistral_v3", "</s>", "mistral_v0_3", settings=EXPERTS),
    "phi3": Family("Phi3Config", "", "<|end|>", "phi3"),
    "phi4": Family("Phi3Config", "", "<|im_end|>", "phi4"),
    "glm4moe": Family("Glm4MoeConfig", "", "<|user|>", "glm4moe", settings=LATENT),
    "cohere": Family("CohereConfig", "", "<|END_OF_TURN_TOKEN|>", "cohere"),
    "cohere2": Family("Cohere2Config", "", "<|END_OF_TURN_TOKEN|>", "cohere2", "<|END_RESPONSE|>"),
    "granite3": Family("GraniteConfig", "", "<|end_of_text|>", "granite3"),
    "lfm2": Family("Lfm2Config", "", "<|im_end|>", "lfm2"),
    "qwen3_5": Family("Qwen3_5TextConfig", "", "<|im_end|>", "qwen3_5_nothink"),
    "gptoss": Family("GptOssConfig", "gptoss", "<|return|>", "gptoss", settings=EXPERTS),
}


def tokenizer_folder(family: Family) -> Path | None:
    """Where its own tokenizer lies; None where it is not at hand."""
    named = os.environ.get(FOLDER, "")
    folder = Path(named).absolute() / family.tokenizer
    return folder if named and (folder / "tokenizer.json").is_file() else None


def save_real_model(folder: Path, family: Family, tokenizer: Path | None) -> Path:
    """A random model with as many embeddings as the tokenizer has tokens; in bf16, for most of it is embeddings."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    if tokenizer is None:
        tokenizer_for(templates()[family.template], family.stop).save_pretrained(folder)
    else:
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
            if (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, folder / name)
    if family.template:
        (folder / "chat_template.jinja").write_text(templates()[family.template], encoding="utf-8")
    found = transformers.AutoTokenizer.from_pretrained(folder)
    stop = found.convert_tokens_to_ids(family.stop)
    assert isinstance(stop, int), f"{family.tokenizer} has no token {family.stop}"
    ids = {"bos_token_id": found.bos_token_id, "eos_token_id": stop, "pad_token_id": found.pad_token_id}
    settings = {**SMALL, **family.settings, **ids, "vocab_size": -(-len(found) // 64) * 64}
    config = getattr(transformers, family.config)(**settings)
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    spread = 0.3 if "Gemma" in family.config else 1.0  # Gemma makes embeddings larger by itself
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=spread)  # or no state could choose one token of all
    model.save_pretrained(folder)
    return folder
