"""Capability tasks through plain lm-eval's hf backend and through ours, on the same machine, one after the other.

`python -m benchmarks.evals --json PATH [--tasks NAME ...] [--limit N] [--batch-size N] [--home FOLDER]`

Plain lm-eval is timed as a whole process. Ours is timed as a build runs it beside a vLLM that serves already, because
the conversations need that vLLM too; its start is a figure of its own. "Again" is the next build: production's answers
are found by what they depend on, and only the candidate is asked. The scores are compared question by question.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.evals import Capability, EvalsConfig, Gate
from configs.project import Project, load_project
from delivery.clients.processes.ports import free_ports
from delivery.progress import silent
from evals.report import EvalReport
from evals.summaries import paired_difference
from tasks.evals.capability import TaskFile, shipped_tasks
from tasks.evals.engine import engine_of
from tasks.evals.evaluate import Subject, evaluate
from tasks.evals.model_server import model_server
from tasks.training.model import model_revision, prepare_model

TUTOR = Path(__file__).parents[2] / "configs" / "tutor"
TARGET_RATIO = 2.0
METRICS = ("acc", "acc_norm")


def main() -> None:
    """Measures and writes one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evals")
    parser.add_argument("--json", type=Path, required=True, dest="output")
    parser.add_argument("--tasks", nargs="+", default=["slipway_physical", "slipway_science"])
    parser.add_argument("--limit", type=int, default=None, help="questions of each task")
    parser.add_argument("--batch-size", type=int, default=16, help="of plain lm-eval")
    parser.add_argument("--home", type=Path, default=None, help="where the base model is kept or was prepared")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slipway-evals-") as scratch:
        found = measure(given, (given.home or Path(scratch)).absolute(), Path(scratch))
    given.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


def measure(given: argparse.Namespace, home: Path, scratch: Path) -> dict[str, Any]:
    """All figures; seconds of wall time."""
    project = _project()
    base = prepare_model(project.model, home)
    tasks = shipped_tasks(given.tasks, os.environ)
    plain, plain_s = _plain(tasks, given, base, scratch)
    began = time.monotonic()
    with model_server(project, base, scratch, silent) as url:
        ready = time.monotonic()
        engine = engine_of(project, base, scratch, url)
        config = _config(given)
        who = Subject("base", project.model.name, None, 0.0, 1, model_revision(base))

        def ask() -> tuple[EvalReport, float]:
            start = time.monotonic()
            found = evaluate(who, url, config, base, scratch, silent, engine=engine)
            return found, time.monotonic() - start

        (ours, ours_s), (_, again_s) = ask(), ask()
    ratio = plain_s / ours_s
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tasks": given.tasks,
        "questions": sum(result.n for name, result in ours.suites.items() if name.endswith("/acc")),
        "plain_lm_eval_hf_s": round(plain_s, 1),
        "plain_batch_size": given.batch_size,
        "ours_s": round(ours_s, 1),
        "ours_again_s": round(again_s, 2),
        "vllm_start_s": round(ready - began, 1),
        "times_as_fast": round(ratio, 2),
        "target": TARGET_RATIO,
        "target_met": ratio >= TARGET_RATIO,
        "times_as_fast_candidate_and_production": round(2 * plain_s / (ours_s + again_s), 2),
        "scores": {name: compare(result.samples, plain, name) for name, result in ours.suites.items()},
        "engine": engine,
    }


def compare(samples: Sequence[Any], plain: Mapping[str, Sequence[Any]], name: str) -> dict[str, Any]:
    """One metric of one task: both scores, and their difference with its 95 % interval, question by question."""
    task, metric = name.split("/")
    theirs = {answer["id"]: answer["values"][f"{metric},none"] for answer in plain[task]}
    one, other = [sample.score for sample in samples], [theirs[sample.id] for sample in samples]
    difference = paired_difference(one, other)
    return {
        "ours": round(sum(one) / len(one), 4),
        "plain": round(sum(other) / len(other), 4),
        "difference": [round(difference.value, 4), round(difference.low, 4), round(difference.high, 4)],
        "same_answers": round(sum(a == b for a, b in zip(one, other, strict=True)) / len(one), 4),
        "equal_within_error": difference.low <= 0 <= difference.high,
    }


def _project() -> Project:
    """The shipped tutor's model and engine, on a port of its own."""
    found = load_project(TUTOR)
    vllm = found.environment.vllm.model_copy(update={"port": free_ports(1)[0]})
    return Project(**{**vars(found), "environment": found.environment.model_copy(update={"vllm": vllm})})


def _config(given: argparse.Namespace) -> EvalsConfig:
    entries = tuple(
        Capability(task=task, metric=metric, limit=given.limit) for task in given.tasks for metric in METRICS
    )
    return EvalsConfig(capability=entries, concurrency=16, gates=(Gate(suite=f"{given.tasks[0]}/acc", max_drop=0.5),))


def _plain(
    tasks: Mapping[str, TaskFile], given: argparse.Namespace, base: Path, scratch: Path
) -> tuple[Mapping[str, Sequence[Any]], float]:
    folder = scratch / "tasks"
    folder.mkdir()
    for name, task in tasks.items():
        (folder / f"{name}.yaml").write_text(task.text, encoding="utf-8")
    order, result = scratch / "order.json", scratch / "plain.json"
    asked = {"tasks": given.tasks, "limit": given.limit, "batch_size": given.batch_size, "dtype": "float32"}
    order.write_text(json.dumps({**asked, "model": str(base), "include_path": str(folder)}), encoding="utf-8")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(scratch / "datasets")}
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.evals.plain", str(order), str(result)], check=True, env=environment
    )
    seconds = time.monotonic() - began
    return json.loads(result.read_text(encoding="utf-8")), seconds


if __name__ == "__main__":
    main()
