"""How much memory a training will need, by estimate: good enough to say beforehand that it cannot fit.

Measured against trainings on CPUs; see `benchmarks.training`, which prints estimate and peak side by side.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from typing import Any

from configs.errors import Problem
from configs.training import TRAINS_ON, TrainingConfig
from delivery.build.base_model import Shapes, of_text

PROGRAM_BYTES = 1_100_000_000  # Python with torch, transformers, peft and trl
OPTIMIZER_BYTES = 16  # a LoRA's weight, its gradient and AdamW's two moments, all float32
PART_TOKENS = 512  # on a CPU a batch goes through the model in parts of about so many
HEADS_BYTES = 12  # a logit as float32, its softmax and its gradient


@dataclass(frozen=True)
class MemoryEstimate:
    """In bytes."""

    program: int
    weights: int
    adapter: int  # with gradients and the optimizer's state
    activations: int

    @property
    def total(self) -> int:
        """All of it, at the peak."""
        return self.program + self.weights + self.adapter + self.activations

    def render(self) -> str:
        """In GiB, part by part."""
        named = {"program": self.program, "weights": self.weights, "adapter": self.adapter, "step": self.activations}
        parts = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in named.items())
        return f"{self.total / 2**30:.1f} GiB ({parts})"


def training_memory(
    config: dict[str, Any], shapes: Shapes, training: TrainingConfig, weight_bytes: int, in_parts: bool
) -> MemoryEstimate:
    """At the longest rows that the settings allow. `weight_bytes`: of one; `in_parts`: where there is no GPU."""
    text = of_text(config)
    hidden, layers = int(text.get("hidden_size") or 0), int(text.get("num_hidden_layers") or 0)
    inner, words = int(text.get("intermediate_size") or 4 * hidden), int(text.get("vocab_size") or 0)
    pairs = 2 if TRAINS_ON[training.method] == "preferences" else 1
    tokens = training.batch_size * training.max_sequence_tokens * pairs
    if in_parts and training.method == "sft":
        tokens = min(tokens, max(PART_TOKENS, training.max_sequence_tokens))
    a_layer = weight_bytes * (16 * hidden + 5 * inner)
    if weight_bytes == 4:  # what is computed in bf16 shares its inputs with the LoRA
        a_layer += 4 * (6 * hidden + inner)
    copies = training.processes if in_parts else 1  # a GPU each, elsewhere
    return MemoryEstimate(
        program=copies * PROGRAM_BYTES,
        weights=copies * weight_bytes * sum(prod(shape) for shape in shapes.values()),
        adapter=copies * OPTIMIZER_BYTES * lora_weights(shapes, training),
        activations=copies * tokens * (layers * a_layer + words * HEADS_BYTES),
    )


def lora_weights(shapes: Shapes, training: TrainingConfig) -> int:
    """How many weights the LoRA will have on these layers."""
    return training.lora.rank * sum(sum(shapes[name]) for name in targeted(shapes, training.lora.target_modules))


def targeted(shapes: Shapes, targets: str | Collection[str]) -> list[str]:
    """The names of the weights that a LoRA lies beside."""
    linear = [name for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2]
    if isinstance(targets, str):  # all-linear: neither embeddings nor head
        return [name for name in linear if not any(part in name for part in ("embed", "lm_head", "wte", "wpe"))]
    return [name for name in linear if name.split(".")[-2] in targets]


def problems_with_memory(estimate: MemoryEstimate, available_bytes: int) -> list[Problem]:
    """A training that this machine cannot hold."""
    if estimate.total <= available_bytes:
        return []
    what = f"about {estimate.render()} are needed, and this machine has {available_bytes / 2**30:.1f} GiB"
    cure = "lower max_sequence_tokens or batch_size, take a smaller base model, or train on a machine with more memory"
    return [Problem("training.yaml", what, cure)]
