"""How long a training takes on this machine's CPU, by estimate: what `slipway check` says before it is begun."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.training import TrainingConfig
from delivery.clients.bundles.safetensors_header import read_model_shapes
from tasks.training.fit import weight_bytes

CALIBRATION_S = 0.3
BATCH_TOKENS = 512  # that go through the model at once on a CPU
FLOPS_A_WEIGHT = 6  # forward and backward, of each token


@dataclass(frozen=True)
class TrainingTime:
    """Roughly, on this machine's CPU as busy as it is: `passes` over `rows`, which are so many `tokens` in all."""

    rows: int
    passes: float
    tokens: int
    tokens_per_s: float

    @property
    def seconds(self) -> float:
        """How long the steps take, without loading and saving."""
        return self.tokens / self.tokens_per_s


def training_time(training: TrainingConfig, tokens: Sequence[int], held_out: int, base: Path) -> TrainingTime:
    """Of the rows that are trained on, as often as they are, unless `max_steps` ends it earlier."""
    trained = len(tokens) - held_out
    passes = training.epochs
    if training.max_steps is not None:
        a_step = training.batch_size * training.gradient_accumulation_steps
        passes = min(passes, training.max_steps * a_step / max(1, trained))
    in_all = round(sum(tokens) * trained / max(1, len(tokens)) * passes)
    return TrainingTime(rows=trained, passes=passes, tokens=in_all, tokens_per_s=_speed(base))


def _speed(base: Path) -> float:
    """Tokens a second on this machine's CPU, from what a product of matrices of the model's size takes here and now."""
    shapes = read_model_shapes(base)
    weights = sum(math.prod(shape) for shape in shapes.values())
    width = max(min(shape) for shape in shapes.values() if len(shape) == 2)
    return _flops_per_s(width) / (weights * FLOPS_A_WEIGHT)


def _flops_per_s(width: int) -> float:
    """The best of some products, as training multiplies: the first ones wake the threads."""
    import torch

    dtype = torch.bfloat16 if weight_bytes() == 2 else torch.float32
    left, right = torch.rand(BATCH_TOKENS, width, dtype=dtype), torch.rand(width, width, dtype=dtype)
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < CALIBRATION_S:
        started = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - started)
    return 2 * BATCH_TOKENS * width**2 / statistics.median(times)
