"""How long a training takes here, by estimate: what `slipway check` says before it is begun.

What an earlier training of the same kind took on this machine is the best estimate. Where there is none, two layers of
the model's size are timed, and steps are taken to be as slow beside them as they are on a machine that serves as well.
"""

import json
import math
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.training import TrainingConfig
from delivery.build.budget import TrainingUsage
from delivery.build.memory import targeted
from delivery.clients.bundles.safetensors_header import read_model_shapes
from tasks.serving.vllm_command import usable_cores
from tasks.training.fit import weight_bytes
from tasks.training.model import model_revision

CALIBRATION_S = 1.0
BATCH_TOKENS = 512  # that go through the model at once on a CPU
REACHED = 0.2  # by whole steps, of such layers' speed: 250 of 1,300 tokens/s, as the demo measured with a model of 135M


@dataclass(frozen=True)
class TrainingTime:
    """Roughly, on this machine: `passes` over `rows`, which are so many `tokens` in all. `source`: whence the speed."""

    rows: int
    passes: float
    tokens: int
    tokens_per_s: float
    source: str

    @property
    def seconds(self) -> float:
        """How long the steps take, without loading and saving."""
        return self.tokens / self.tokens_per_s


def training_time(
    training: TrainingConfig, tokens: Sequence[int], held_out: int, base: Path, home: Path
) -> TrainingTime:
    """Of the rows that are trained on, as often as they are, unless `max_steps` ends it earlier."""
    trained = len(tokens) - held_out
    passes = training.epochs
    if training.max_steps is not None:
        a_step = training.batch_size * training.gradient_accumulation_steps * training.processes
        passes = min(passes, training.max_steps * a_step / max(1, trained))
    in_all = round(sum(tokens) * trained / max(1, len(tokens)) * passes)
    speed = _measured(training, base, home)
    source = "as measured in the last such training on this machine"
    if speed is None:
        speed = _speed(training, base)
        source = "on this machine's CPU while it serves, too; alone it is up to twice as quick, a GPU far quicker"
    return TrainingTime(rows=trained, passes=passes, tokens=in_all, tokens_per_s=speed, source=source)


def _measured(training: TrainingConfig, base: Path, home: Path) -> float | None:
    """Tokens a second of the newest finished training here of the same base model, method, LoRA and batch."""
    revision, wanted = model_revision(base), _kind(training.model_dump(mode="json"))
    folders = [path.parent for path in (home / "trainings").glob("*/done.json")]
    for folder in sorted(folders, key=lambda one: (one / "done.json").stat().st_mtime, reverse=True):
        try:
            run, done = (json.loads((folder / name).read_bytes()) for name in ("run.json", "done.json"))
            usage = TrainingUsage(tokens=done["trained_tokens"], seconds=done["seconds"])
            alike = run["model_revision"] == revision and _kind(run["config"]) == wanted
        except (OSError, ValueError, KeyError):  # of another version, or taken away meanwhile: it tells nothing
            continue
        if alike and done.get("host") == socket.gethostname() and usage.seconds:
            return usage.tokens / usage.seconds
    return None


def _kind(settings: dict[str, Any]) -> tuple[Any, ...]:
    """What the speed depends on, of a training's settings."""
    return settings["method"], settings["lora"], settings["batch_size"], settings.get("processes", 1)


def _speed(training: TrainingConfig, base: Path) -> float:
    """Tokens a second on this machine's CPU, from what two layers of the model's size with their LoRA take."""
    shapes = read_model_shapes(base)
    linear = [shapes[name] for name in targeted(shapes, "all-linear")]
    width, inner = sorted(max(linear, key=math.prod))
    seconds = _two_layers(width, inner, training.lora.rank) / usable_cores()
    return REACHED * BATCH_TOKENS / (seconds * sum(map(math.prod, linear)) / (2 * width * inner))


def _two_layers(width: int, inner: int, rank: int) -> float:
    """Seconds of one core for a batch, forward and backward.

    The quickest of some, by one thread: several would wait for each other where others use the CPU as well.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dtype = torch.bfloat16 if weight_bytes() == 2 else torch.float32
    up, down = torch.rand(inner, width, dtype=dtype), torch.rand(width, inner, dtype=dtype)
    a, b, c, d = (
        torch.rand(*shape, requires_grad=True) for shape in ((rank, width), (inner, rank), (rank, inner), (width, rank))
    )
    given = torch.rand(BATCH_TOKENS, width, dtype=dtype, requires_grad=True)
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < CALIBRATION_S:
        started = time.perf_counter()
        hidden = torch.nn.functional.silu(given @ up.T + ((given.float() @ a.T) @ b.T).to(dtype))
        out = given + hidden @ down.T + ((hidden.float() @ c.T) @ d.T).to(dtype)
        torch.autograd.backward(out.float().sum())
        times.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return min(times)
