"""Whether a training can begin with the adapter of another bundle: the same LoRA on the same base model, or not."""

from collections.abc import Iterable, Mapping
from typing import Any

from configs.canonical import short
from configs.errors import Problem
from configs.training import LoraSettings, TrainingConfig
from delivery.build.bundle import Bundle
from delivery.build.split import bare

SAME = ("rank", "alpha", "target_modules", "rslora")
"""Settings of a LoRA that decide what its weights mean; dropout is none of them."""


def differences(parent: Bundle, config: TrainingConfig, revision: str) -> list[Problem]:
    """Each thing in which `parent`'s adapter differs from the one that is to be trained; empty: it can go on."""
    found = []
    if parent.base_revision != revision:
        cure = f"name that base model, {parent.base_model}, in model.yaml"
        found.append(Problem("base model", f"revision {parent.base_revision} then, {revision} now", cure))
    then = LoraSettings.model_validate((parent.training or {}).get("lora", {}))
    for name in SAME:
        old, new = _compared(getattr(then, name)), _compared(getattr(config.lora, name))
        if old != new:
            cure = f"lora: {{{name}: {old}}}" if not isinstance(old, list) else f"lora: {{{name}: [{', '.join(old)}]}}"
            found.append(Problem(f"training.yaml: lora.{name}", f"{old} then, {new} now", cure))
    return found


def _compared(value: Any) -> Any:
    """Target modules have no order."""
    return sorted(value) if isinstance(value, tuple) else value


def trained_prompts(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """What users say first in rows of train.jsonl, as the split compares it: prompts that an adapter has seen."""
    return {_prompt(row) for row in rows}


def seen(rows: Iterable[Mapping[str, Any]], prompts: set[str]) -> list[str]:
    """The ids of those rows of holdout.jsonl whose prompt was trained on."""
    return [row["id"] for row in rows if _prompt(row) in prompts]


def _prompt(row: Mapping[str, Any]) -> str:
    said = row.get("messages") or row["prompt"]
    return bare(" ".join(next(m["content"] for m in said if m["role"] == "user").casefold().split()))


def described(parent: Bundle) -> str:
    """A parent in a few words."""
    return f"bundle {short(parent.digest)} (adapter {short(parent.adapter.digest) if parent.adapter else 'none'})"
