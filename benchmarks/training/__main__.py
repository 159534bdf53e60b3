"""Measures both in turn: tokens a second, peak memory, losses. `python -m benchmarks.training --json figures.json`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from configs.project import load_project
from tasks.data.dataset import build_dataset
from tasks.training.chat import open_chat
from tasks.training.fit import estimate_memory, weight_bytes
from tasks.training.model import model_revision, prepare_model
from tasks.training.rows import order_of, tokenise
from tasks.training.train import worker_environment

SAME_LOSS = 0.02  # nats between the means of the curves: bf16 rounds otherwise in parts than in whole batches


def main() -> None:
    """Trains the project's adapter for some steps both ways, prints the ratio, and writes all figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path("configs/tutor"))
    parser.add_argument("--home", type=Path, default=Path(".slipway"), help="where the prepared base model is kept")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(asked.project, asked.home, asked.steps, Path(scratch))
    asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(render(figures))
    sys.exit(0 if figures["same_loss"] else 1)


def measure(folder: Path, home: Path, steps: int, scratch: Path) -> dict[str, Any]:
    """Both trainings, one after the other, each in a process of its own."""
    project = load_project(folder)
    base, prompts = prepare_model(project.model, home), project.prompts
    kwargs = prompts.chat_template_kwargs
    version = build_dataset(
        project.dataset, project.dataset_folder, base, prompts.adapter, scratch, chat_template_kwargs=kwargs
    )
    config = project.training.model_copy(update={"max_steps": steps, "checkpoint_every_steps": steps})
    chat, rows_file = open_chat(base, kwargs), version.folder / "train.jsonl"
    with rows_file.open(encoding="utf-8") as file:
        given = [json.loads(line) for line in file]
    rows = tokenise(
        ((row["id"], chat.with_system(row["messages"], prompts.adapter), row.get("tools")) for row in given),
        chat,
        config.max_sequence_tokens,
    )
    order = order_of([len(row.input_ids) for row in rows], config.batch_size, config.epochs, config.seed)
    shared = {"model": str(base.absolute()), "config": config.model_dump(mode="json"), "folder": str(scratch)}
    bare = shared | {
        "bf16": weight_bytes() == 2,
        "rows": [{"input_ids": rows[number].input_ids, "labels": rows[number].labels} for number in order],
    }
    ours = shared | {
        "rows": str(rows_file),
        "model_revision": model_revision(base),
        "system_prompt": prompts.adapter,
        "chat_template_kwargs": kwargs,
    }
    found = {name: _run(name, spec, scratch) for name, spec in (("bare", bare), ("ours", ours))}
    means = {name: fmean(one["losses"]) for name, one in found.items()}
    return {
        "steps": steps,
        **found,
        "ratio": found["ours"]["tokens_per_s"] / found["bare"]["tokens_per_s"],
        "mean_loss": means,
        "same_loss": abs(means["ours"] - means["bare"]) < SAME_LOSS,
        "estimated_bytes": estimate_memory(project, base).total,
    }


def _run(name: str, spec: dict[str, Any], scratch: Path) -> dict[str, Any]:
    path = scratch / f"{name}-spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if name == "ours":
        environment |= worker_environment()
    subprocess.run([sys.executable, "-m", f"benchmarks.training.{name}", str(path)], check=True, env=environment)
    found: dict[str, Any] = json.loads((scratch / f"{name}.json").read_text(encoding="utf-8"))
    return found


def render(figures: dict[str, Any]) -> str:
    """A line each, and the comparison."""
    lines = [
        f"{name:5} {figures[name]['tokens_per_s']:7.0f} tokens/s  {figures[name]['peak_bytes'] / 2**30:5.1f} GiB  "
        f"mean loss {figures['mean_loss'][name]:.4f}"
        for name in ("bare", "ours")
    ]
    estimate = figures["estimated_bytes"] / 2**30
    same = "the same loss" if figures["same_loss"] else "ANOTHER LOSS"
    return "\n".join(
        [*lines, f"ours is {figures['ratio']:.2f} times as fast, {same}; {estimate:.1f} GiB were estimated"]
    )


if __name__ == "__main__":
    main()
