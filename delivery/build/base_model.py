"""Whether a base model fits together with its tokenizer, the settings and vLLM; read off its small files.

`config` is config.json, `shapes` are the tensors' by safetensors' headers: no weights are read.
"""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from configs.errors import Problem

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "tok_embeddings.weight")
STRETCHED = ("linear", "dynamic", "yarn")  # vLLM multiplies the context by their factor
HARMONY = "gpt_oss"

Shapes = Mapping[str, tuple[int, ...]]


def problems_with_base(
    config: Mapping[str, Any], shapes: Shapes, token_ids: int, max_context_tokens: int
) -> list[Problem]:
    """Why the model could not be trained or served; empty when nothing speaks against it.

    `token_ids`: one more than the tokenizer's highest token.
    """
    problems = []
    rows = embedded_tokens(config, shapes)
    if rows is not None and token_ids > rows:
        what = f"the tokenizer has tokens up to {token_ids - 1}, and the embedding has {rows} rows"
        cure = "take the tokenizer that came with these weights, or weights whose embedding was made larger"
        problems.append(Problem("model.yaml", what, cure))
    context = context_tokens(config)
    if context is not None and max_context_tokens > context:
        what = f"{max_context_tokens} is above the {context} tokens that the model was made for"
        problems.append(Problem("model.yaml: max_context_tokens", what, f"set it to at most {context}"))
    if config.get("model_type") == HARMONY:
        what = "vLLM writes the prompts of gpt-oss itself (Harmony, with the day's date), not by the chat template"
        cure = "use another base model: what is trained would not be what is served"
        problems.append(Problem("model.yaml", what, cure))
    return problems


def problems_with_architecture(config: Mapping[str, Any], carries_lora: Mapping[str, bool | None]) -> list[Problem]:
    """An architecture of which the vLLM at hand says that it carries no LoRA; `carries_lora` by architecture."""
    return [
        Problem(
            "model.yaml",
            f"vLLM cannot serve a LoRA on {name}: its class there does not support LoRA",
            "use a base model of another architecture (Llama, Qwen, Gemma, Mistral, Phi... do), or a newer vLLM",
        )
        for name in architectures(config)
        if carries_lora.get(name) is False
    ]


def problems_with_tokenizer(files: Collection[str], vllm_arguments: Sequence[str]) -> list[Problem]:
    """A Mistral folder whose prompts vLLM would write by Mistral's own library, not by the chat template."""
    weights = any(fnmatch(name, "consolidated*.safetensors") for name in files)
    own = any(fnmatch(name, "tekken.json") or fnmatch(name, "tokenizer.model.v*") for name in files)
    if not (weights and own) or any(word.startswith("--tokenizer-mode") for word in vllm_arguments):
        return []
    what = "vLLM would write the prompts by Mistral's own tokenizer, not by the chat template that training goes by"
    cure = "set `vllm: {extra_args: [--tokenizer-mode, hf]}` in environment.yaml"
    return [Problem("environment.yaml: vllm.extra_args", what, cure)]


def architectures(config: Mapping[str, Any]) -> list[str]:
    """config.json's own names for what the model is."""
    return [str(name) for name in config.get("architectures") or ()]


def of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of config.json that is about text: a model that also sees keeps it apart."""
    part = config.get("text_config")
    return part if isinstance(part, Mapping) else config


def embedded_tokens(config: Mapping[str, Any], shapes: Shapes) -> int | None:
    """How many tokens the embedding has rows for; by the weights, else as config.json says."""
    found = [shape[0] for name, shape in shapes.items() if name.endswith(EMBEDDINGS) and len(shape) == 2]
    if found:
        return min(found)
    named = of_text(config).get("vocab_size")
    return named if isinstance(named, int) else None


def context_tokens(config: Mapping[str, Any]) -> int | None:
    """The longest context that vLLM would allow by config.json; None where it names none."""
    text = of_text(config)
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
    found = [text[name] for name in names if isinstance(text.get(name), int)]
    if not found:
        return None
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    stretched = rope.get("rope_type", rope.get("type")) in STRETCHED
    original = rope.get("original_max_position_embeddings")
    if stretched and rope.get("factor"):
        return int((original or min(found)) * rope["factor"])
    return int(min(found))
