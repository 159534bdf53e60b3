"""The smallest bundle that can be released: for benchmarks and tests of what does not depend on a model."""

import json
from pathlib import Path

import numpy
from safetensors.numpy import save_file

from delivery.build.bundle import Adapter, Bundle


def write_tiny_lora(folder: Path, number: int, rank: int = 8) -> None:
    """The two files of a real adapter, other ones for every number."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    a, b = numpy.full((rank, 4), number, numpy.float32), numpy.zeros((4, rank), numpy.float32)
    save_file({name.format("A"): a, name.format("B"): b}, folder / "adapter_model.safetensors")


def tiny_bundle(prompt: str, adapter: Adapter | None = None) -> Bundle:
    """For the route `tutor` on the base model `base`."""
    return Bundle(
        route="tutor",
        base_model="base",
        base_revision="sha256:0",
        adapter=adapter,
        dataset_version=None,
        dataset_code=None,
        training=None,
        system_prompt=prompt,
        temperature=0.0,
        max_tokens=16,
    )
