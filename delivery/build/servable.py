"""What vLLM will refuse, said before a GPU is spent on training it.

The rules are vLLM 0.32's own (`vllm/lora/peft_helper.py`, `lora_model.py`, `utils.py`); two of ours are added: weights
are safetensors only, and a setting that vLLM would ignore in silence is refused too.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from configs.errors import Problem
from configs.training import TrainingConfig

PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # these leave the base weights as they were
TENSOR = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.(?P<side>lora_[AB])\.weight$")
EMBEDDING = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.(?P<side>lora_embedding_[AB])$")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CONFIG = "adapter_config.json"
REFUSED_FIELDS = {
    "use_dora": "DoRA",
    "lora_bias": "a bias in the LoRA layers",
    "alora_invocation_tokens": "Activated LoRA",
    "layer_replication": "layer replication",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
    "trainable_token_indices": "trained token embeddings",
}


def problems_with_settings(
    config: TrainingConfig, model_modules: Collection[str], max_lora_rank: int | None = None
) -> list[Problem]:
    """What is wrong with training settings before training. `model_modules`: see `linear_modules`."""
    problems = []
    if max_lora_rank is not None:
        problems += _rank_problems("training.yaml: lora.rank", config.lora.rank, max_lora_rank)
    targets = config.lora.target_modules
    unknown = [] if isinstance(targets, str) else sorted(set(targets) - set(model_modules))
    if unknown:
        cure = f"the model has {', '.join(sorted(model_modules))}"
        what = f"the model has no linear layer named {', '.join(unknown)}"
        problems.append(Problem("training.yaml: lora.target_modules", what, cure))
    if not isinstance(targets, str) and {"lm_head", "embed_tokens"} & set(targets):
        what = "embeddings and the head are not trained"
        problems.append(Problem("training.yaml: lora.target_modules", what, "leave out embed_tokens and lm_head"))
    return problems


def problems_with(
    adapter_config: Mapping[str, Any],
    tensor_names: Iterable[str],
    max_lora_rank: int,
    model_modules: Collection[str] | None = None,
) -> list[Problem]:
    """Why vLLM would not serve these adapter files; empty when it would.

    `tensor_names` are those of adapter_model.safetensors. `model_modules`, where known, are the base model's linear
    layers by the last part of their names.
    """
    missing = [key for key in ("r", "lora_alpha", "target_modules") if key not in adapter_config]
    if missing:
        return [Problem(CONFIG, f"{', '.join(missing)} missing", "save the adapter with peft's save_pretrained")]
    problems = _config_problems(adapter_config)
    for rank in _ranks(adapter_config):
        problems += _rank_problems(CONFIG, rank, max_lora_rank)
    return problems + _tensor_problems(list(tensor_names), adapter_config["target_modules"], model_modules)


def problems_with_files(names: Iterable[str]) -> list[Problem]:
    """Files that must not be in an adapter's folder: reading a pickle runs the code in it."""
    return [
        Problem(name, "weights as pickle", "save the adapter as safetensors")
        for name in sorted(names)
        if name.endswith(PICKLES)
    ]


def linear_modules(base_shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    """The last name parts of the base model's linear layers, such as q_proj; from its weights' names and shapes."""
    return {
        name.split(".")[-2]
        for name, shape in base_shapes.items()
        if name.endswith(".weight") and len(shape) == 2 and name.count(".") >= 1
    }


def _config_problems(config: Mapping[str, Any]) -> list[Problem]:
    cure = "train a plain LoRA"
    problems = [
        Problem(f"{CONFIG}: {field}", f"vLLM does not serve {what}", cure)
        for field, what in REFUSED_FIELDS.items()
        if config.get(field)
    ]
    if config.get("bias", "none") != "none":
        problems.append(Problem(f"{CONFIG}: bias", f"vLLM does not serve bias={config['bias']!r}", "set bias to none"))
    if config.get("modules_to_save"):
        what = f"vLLM does not serve whole modules: {', '.join(config['modules_to_save'])}"
        problems.append(Problem(f"{CONFIG}: modules_to_save", what, cure))
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        what = f"{init} changes the base model's weights, which vLLM does not do again"
        problems.append(Problem(f"{CONFIG}: init_lora_weights", what, "convert it to a plain LoRA with peft"))
    return problems


def _ranks(config: Mapping[str, Any]) -> list[Any]:
    return [config["r"], *(config.get("rank_pattern") or {}).values()]


def _rank_problems(where: str, rank: Any, max_lora_rank: int) -> list[Problem]:
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        return [Problem(where, f"rank {rank!r} is no positive whole number")]
    if rank > max_lora_rank:
        what = f"rank {rank} is above vLLM's max_lora_rank {max_lora_rank}"
        return [Problem(where, what, "lower the rank, or raise vllm.max_lora_rank in environment.yaml")]
    return []


def _tensor_problems(names: list[str], targets: Any, model_modules: Collection[str] | None) -> list[Problem]:
    where = "adapter_model.safetensors"
    if not names:
        return [Problem(where, "it holds no tensor")]
    problems = []
    sides: dict[str, set[str]] = {}
    for name in names:
        match = TENSOR.match(name) or EMBEDDING.match(name)
        if match is None:
            problems.append(Problem(where, f"vLLM does not know what to do with tensor {name}", "train a plain LoRA"))
        else:
            sides.setdefault(match["module"], set()).add(match["side"][-1])
    for module in sorted(module for module, found in sides.items() if found != {"A", "B"}):
        problems.append(Problem(where, f"{module} has only one of lora_A and lora_B"))
    trained = {module.rsplit(".", 1)[-1] for module in sides}
    if model_modules is not None and trained - set(model_modules):
        unknown = ", ".join(sorted(trained - set(model_modules)))
        problems.append(Problem(where, f"the base model has no module named {unknown}", "use the matching base model"))
    if isinstance(targets, list | tuple | set):
        untrained = sorted(target for target in targets if target.rsplit(".", 1)[-1] not in trained)
        if untrained:
            what = f"{', '.join(untrained)} named, but without weights"
            problems.append(Problem(f"{CONFIG}: target_modules", what, "name only layers that the model has"))
    return problems
