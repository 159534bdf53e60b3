"""The process that times two layers of a model's size with their LoRA, under the conditions of a training process."""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tasks.child import OnWorkerEvent, serve

CALIBRATION_S = 2.0


def work(spec: Path, report: OnWorkerEvent) -> None:
    """`spec` is JSON: `width`, `inner`, `rank`, `tokens`, and whether weights are `half`, which is bfloat16."""
    report({"event": "measured", "seconds": two_layers(json.loads(spec.read_bytes()))})


def two_layers(size: dict[str, Any]) -> float:
    """Seconds for a batch, forward and backward, by all cores that training would use; the median of some.

    One core's time divided by their number would be too little: cores may share what multiplies.
    """
    import torch

    width, inner, rank = size["width"], size["inner"], size["rank"]
    dtype = torch.bfloat16 if size["half"] else torch.float32
    up, down = torch.rand(inner, width, dtype=dtype), torch.rand(width, inner, dtype=dtype)
    a, b, c, d = (
        torch.rand(*shape, requires_grad=True) for shape in ((rank, width), (inner, rank), (rank, inner), (width, rank))
    )
    given = torch.rand(size["tokens"], width, dtype=dtype, requires_grad=True)
    times: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < CALIBRATION_S:
        started = time.perf_counter()
        hidden = torch.nn.functional.silu(given @ up.T + ((given.float() @ a.T) @ b.T).to(dtype))
        out = given + hidden @ down.T + ((hidden.float() @ c.T) @ d.T).to(dtype)
        torch.autograd.backward(out.float().sum())
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(serve(work))
