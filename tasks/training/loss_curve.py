"""The loss curve as data (one JSON line a step, written as it happens) and as a picture."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class LossPoint:
    """One optimizer step. `tokens` and `seconds` count from the start of the training, resumed runs included."""

    step: int
    loss: float | None  # mean over the step's loss-carrying tokens; None stands for NaN or infinity
    lr: float
    grad_norm: float | None  # before clipping
    tokens: int  # all that went through the model, prompts included, padding not
    seconds: float

    @property
    def finite(self) -> bool:
        """Whether the step's loss and gradient can be used."""
        return self.loss is not None and self.grad_norm is not None


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN: what cannot be used is null."""
    return value if math.isfinite(value) else None


def read(path: Path) -> list[LossPoint]:
    """All complete lines; a line cut short by a kill is left out."""
    points = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            points.append(LossPoint(**json.loads(line)))
        except json.JSONDecodeError:
            break
    return points


def restart(path: Path, after_step: int) -> list[LossPoint]:
    """Drops the points after the checkpoint that training goes on from, and returns those kept."""
    kept = [point for point in read(path) if point.step <= after_step]
    fresh = path.with_suffix(".tmp")
    fresh.write_text("".join(json.dumps(asdict(p)) + "\n" for p in kept), encoding="utf-8")
    fresh.replace(path)
    return kept


def append(path: Path, point: LossPoint) -> None:
    """One more line, on disk when this returns to the operating system's cache."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(point)) + "\n")


def draw(points: list[LossPoint], path: Path, title: str) -> None:
    """Loss per step with its running mean, and the learning rate; a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    usable = [p for p in points if p.loss is not None]
    steps, losses = [p.step for p in usable], [p.loss for p in usable if p.loss is not None]
    window = max(1, len(losses) // 20)
    means = [
        sum(losses[max(0, i - window) : i + 1]) / len(losses[max(0, i - window) : i + 1]) for i in range(len(losses))
    ]
    figure, axes = pyplot.subplots(figsize=(9, 5), dpi=110)
    axes.plot(steps, losses, color="#9db8d9", linewidth=1, label="loss of each step")
    axes.plot(steps, means, color="#1f4e8c", linewidth=2, label=f"mean of {window + 1} steps")
    for point in points:
        if not point.finite:
            axes.axvline(point.step, color="#c0392b", linestyle="--", label=f"not finite at step {point.step}")
    axes.set(xlabel="optimizer step", ylabel="loss per assistant token (nats)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    rates = axes.twinx()
    rates.plot([p.step for p in points], [p.lr for p in points], color="#b0883b", linewidth=1, linestyle=":")
    rates.set_ylabel("learning rate (dotted)")
    axes.legend(loc="upper right")
    figure.tight_layout()
    fresh = path.with_suffix(".tmp.png")
    figure.savefig(fresh)
    pyplot.close(figure)
    fresh.replace(path)
