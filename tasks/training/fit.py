"""Whether base model, template, prompts, settings and the vLLM at hand fit together: known before anything is spent."""

import json
from pathlib import Path
from typing import Any

import psutil

from configs.errors import ConfigError, Problem
from configs.project import Project
from delivery.build.base_model import (
    architectures,
    problems_with_architecture,
    problems_with_base,
    problems_with_tokenizer,
)
from delivery.build.memory import MemoryEstimate, problems_with_memory, training_memory
from delivery.build.servable import linear_modules, problems_with_settings
from delivery.clients.bundles.safetensors_header import read_model_shapes
from tasks.serving.vllm_command import interpreter
from tasks.serving.vllm_models import carries_lora
from tasks.training.template import problems_with_template, read_template


def require_fit(project: Project, folder: Path) -> None:
    """Raises one ConfigError with all that speaks against training and serving this base model as configured."""
    problems = problems_with_fit(project, folder)
    if problems:
        raise ConfigError(f"the base model {project.model.name} cannot be used as configured", problems=problems)


def problems_with_fit(project: Project, folder: Path) -> list[Problem]:
    """The same as a list. Reads config.json, the tokenizer's files and the headers of the weights; about a second."""
    config, shapes = _json(folder / "config.json"), read_model_shapes(folder)
    python = interpreter(project.environment.vllm)
    carried = {name: carries_lora(python, name) for name in architectures(config)}
    return [
        *problems_with_architecture(config, carried),
        *problems_with_base(config, shapes, token_ids(folder), project.model.max_context_tokens),
        *problems_with_tokenizer([path.name for path in folder.iterdir()], project.environment.vllm.extra_args),
        *(problems_with_settings(project.training, linear_modules(shapes)) if shapes else ()),
        *problems_with_template(read_template(folder), project.prompts.chat_template_kwargs),
        *problems_with_memory(estimate_memory(project, folder), psutil.virtual_memory().total),
    ]


def estimate_memory(project: Project, folder: Path) -> MemoryEstimate:
    """What training on this project's settings will need of main memory, at its longest rows."""
    config, shapes = _json(folder / "config.json"), read_model_shapes(folder)
    return training_memory(config, shapes, project.training, weight_bytes=weight_bytes(), in_parts=not _has_gpu())


def token_ids(folder: Path) -> int:
    """One more than the highest token of tokenizer.json; 0 where it names none."""
    found = _json(folder / "tokenizer.json")
    words = (found.get("model") or {}).get("vocab") or {}
    numbers = words.values() if isinstance(words, dict) else range(len(words))
    added: list[int] = [token["id"] for token in found.get("added_tokens") or ()]
    return int(max([-1, *numbers, *added])) + 1


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def weight_bytes() -> int:
    """Of one weight of the base model as training loads it: bf16 where the machine computes in it."""
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text(encoding="utf-8", errors="replace") if cpu.exists() else ""
    return 2 if _has_gpu() or "avx512_bf16" in flags or "amx_bf16" in flags else 4


def _json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return value if isinstance(value, dict) else {}
