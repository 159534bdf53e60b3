"""A LoRA for the tiny model that peft loads: random numbers, no training."""

import json
from pathlib import Path

import numpy
from safetensors.numpy import save_file

RANK, ALPHA, HIDDEN, LAYERS = 4, 8, 32, 2
MODULE = "model.layers.{}.self_attn.q_proj"


def save_tiny_lora(folder: Path, seed: int = 1) -> Path:
    """The two files of an adapter on every q_proj of `tiny_model.save_tiny_model`."""
    folder.mkdir(parents=True)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj"],
        "bias": "none",
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    numbers = numpy.random.default_rng(seed)
    shapes = {"A": (RANK, HIDDEN), "B": (HIDDEN, RANK)}
    tensors = {
        f"base_model.model.{MODULE.format(layer)}.lora_{side}.weight": numbers.normal(0, 0.1, shape).astype(
            numpy.float32
        )
        for layer in range(LAYERS)
        for side, shape in shapes.items()
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
