"""LoRAs that cost what trained ones cost: their shapes are real, their weights are random."""

import json
from pathlib import Path

import numpy
from safetensors.numpy import save_file

from delivery.build.memory import targeted
from delivery.clients.bundles.safetensors_header import read_model_shapes


def write_loras(base: Path, folder: Path, count: int, rank: int) -> list[Path]:
    """So many folders with an adapter on all linear layers of the base model each, no two alike."""
    shapes = read_model_shapes(base)
    layers = {name: shapes[name] for name in targeted(shapes, "all-linear")}
    modules = sorted({name.split(".")[-2] for name in layers})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": modules,
        "bias": "none",
    }
    made = []
    for number in range(count):
        random = numpy.random.default_rng(number)
        place = folder / f"lora-{number:03d}"
        place.mkdir(parents=True)
        (place / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
        weights = {}
        for name, (rows, columns) in layers.items():
            stem = "base_model.model." + name.removesuffix(".weight")
            weights[f"{stem}.lora_A.weight"] = random.normal(0, 0.01, (rank, columns)).astype(numpy.float32)
            weights[f"{stem}.lora_B.weight"] = random.normal(0, 0.01, (rows, rank)).astype(numpy.float32)
        save_file(weights, place / "adapter_model.safetensors")
        made.append(place)
    return made
