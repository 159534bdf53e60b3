"""Capability evals through lm-eval, in a process of its own: importing it takes long and its memory never comes back.

What an adapter must not unlearn: log-likelihood questions, asked without any prompt of ours. Answers are cached for
each task and model, and per-sample values are kept, because comparisons are paired.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import httpx
from pydantic import BaseModel, Field

from configs.canonical import digest_bytes, digest_of
from configs.errors import ConfigError, Problem, SlipwayError
from configs.evals import Capability
from configs.loading import check_text, read_text
from delivery.clients.fresh_folder import fresh_folder
from delivery.progress import Progress
from evals.report import Better, SampleScore
from tasks import child

SHIPPED = Path(__file__).parents[2] / "evals" / "capability"

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class TaskAnswers(TypedDict):
    """What is kept of one task. Values and metrics go by "metric,filter"."""

    answers: list[dict[str, Any]]  # one a question: {"id", "values": {metric: number}, "output"}
    metrics: dict[str, dict[str, bool | None]]  # {"higher_is_better", "is_mean"}


@dataclass(frozen=True)
class TaskFile:
    """A shipped task's YAML with its paths filled in; `version` covers it and its data, wherever they lie."""

    text: str
    version: str
    questions: int | None = None  # None where only lm-eval can count them


def task_version(entry: Capability, shipped: TaskFile | None) -> str:
    """What must be equal for two results of one task to be comparable."""
    content = shipped.version if shipped else None
    return digest_of({"task": entry.task, "limit": entry.limit, "content": content, "lm_eval": version("lm_eval")})


class _DatasetKwargs(BaseModel):
    data_files: dict[str, str] = Field(default_factory=dict)


class _Task(BaseModel):
    """Of a shipped task what is looked at here; lm-eval knows the rest."""

    task: str
    test_split: str | None = None
    dataset_kwargs: _DatasetKwargs = _DatasetKwargs()


def shipped_tasks(
    names: Sequence[str], environment: Mapping[str, str], folders: Sequence[Path] = (SHIPPED,)
) -> dict[str, TaskFile]:
    """Those of the tasks that have a file in one of the folders, the first that has it; by name.

    Raises ConfigError when one is wrong, or its data is not there.
    """
    found: dict[str, TaskFile] = {}
    problems: list[Problem] = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.yaml"))):
        if path.stem in names and path.stem not in found:
            task, wrong = _shipped(path, environment)
            problems += wrong
            if task is not None:
                found[path.stem] = task
    if problems:
        raise ConfigError(f"{len(problems)} problem(s) in the capability tasks", problems=problems)
    return found


def _shipped(path: Path, environment: Mapping[str, str]) -> tuple[TaskFile | None, list[Problem]]:
    text, problems = _filled_in(path, environment)
    task, wrong = (None, []) if problems else check_text(text, path, _Task)
    if task is None:
        return None, problems + wrong
    if task.task != path.stem:
        cure = f"task: {path.stem}"
        return None, [Problem(f"{path}: task", f"lm-eval would find {task.task!r}, not the file's name", cure)]
    files = [Path(name) for name in task.dataset_kwargs.data_files.values()]
    if missing := [file for file in files if not os.path.isfile(file)]:
        cure = f"put the data there, or take {path.stem} out of evals.yaml"
        return None, [Problem(str(path), f"the data file {file} does not exist", cure) for file in missing]
    data = [digest_bytes(file.read_bytes()) for file in files]
    version_of = digest_of({"yaml": digest_bytes(path.read_bytes()), "data": data})
    return TaskFile(text, version_of, _questions(task)), []


def _questions(task: _Task) -> int | None:
    """How many questions a task of JSON lines asks."""
    name = task.dataset_kwargs.data_files.get(task.test_split or "")
    if name is None or not name.endswith(".jsonl"):
        return None
    with Path(name).open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _filled_in(path: Path, environment: Mapping[str, str]) -> tuple[str, list[Problem]]:
    known = {**environment, "TASK_FOLDER": str(path.parent.resolve())}
    text, problem = read_text(path)
    if problem is not None:
        return "", [problem]
    missing = sorted({name for name in _VARIABLE.findall(text) if name not in known})
    cure = f"set {', '.join(missing)} to the folder of the data, or take {path.stem} out of evals.yaml"
    return (
        _VARIABLE.sub(lambda match: known.get(match[1], ""), text),
        [Problem(str(path), f"${{{name}}} is not set", cure) for name in missing],
    )


def ask(
    entries: Sequence[Capability],
    shipped: Mapping[str, TaskFile],
    model: str,
    vllm_url: str,
    concurrency: int,
    tokenizer_folder: Path,
    log: Path,
    on_progress: Progress,
    api_key: str | None = None,
) -> dict[str, TaskAnswers]:
    """The model's answers to each distinct task, by its name. Raises SlipwayError with lm-eval's last lines.

    Tasks that are not shipped are looked up by lm-eval itself, which needs a network.
    """
    limits = {entry.task: entry.limit for entry in entries}
    with fresh_folder(log.parent, "lm-eval's questions and answers") as folder:
        result, spec = folder / "answers.json", folder / "spec.json"
        (folder / "tasks").mkdir()
        for name, task in shipped.items():
            (folder / "tasks" / f"{name}.yaml").write_text(task.text, encoding="utf-8")
        order = {
            "tasks": limits,
            "include_path": str(folder / "tasks"),
            "include_defaults": not limits.keys() <= shipped.keys(),
            "model": model,
            "base_url": f"{vllm_url.rstrip('/')}/v1/completions",
            "tokenizer": str(tokenizer_folder),
            "concurrency": concurrency,
            "max_length": max_length(vllm_url, api_key),
            "result": str(result),
        }
        spec.write_text(json.dumps(order), encoding="utf-8")
        environment = {"OPENAI_API_KEY": api_key or "", "TOKENIZERS_PARALLELISM": "false"}
        if not order["include_defaults"]:
            environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "datasets")}

        def listen(event: child.WorkerEvent) -> None:
            on_progress(event["done"], event["total"], event["text"])

        child.call("tasks.evals.capability_worker", spec, log, listen, environment)
        answers: dict[str, TaskAnswers] = json.loads(result.read_text(encoding="utf-8"))
        return answers


def code_digest() -> str:
    """Of the code that asks: what another one got is not compared with it."""
    names = ("capability_worker.py", "vllm_model.py")
    return digest_of({name: digest_bytes(Path(__file__).with_name(name).read_bytes()) for name in names})


def max_length(vllm_url: str, api_key: str | None) -> int:
    """The longest context that this vLLM takes, in tokens; lm-eval cuts longer questions from the left."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        response = httpx.get(f"{vllm_url.rstrip('/')}/v1/models", headers=headers, timeout=30, trust_env=False)
        response.raise_for_status()
        found = [model.get("max_model_len") for model in response.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise SlipwayError(
            f"vLLM does not list its models: {error}", where=vllm_url, cure="see whether it still runs, and its log"
        ) from error
    return max((int(length) for length in found if length), default=2048)


@dataclass(frozen=True)
class Scored:
    """The values of one metric, question by question, and which way is better."""

    scores: tuple[SampleScore, ...]
    better: Better


def scores(entry: Capability, answers: TaskAnswers) -> Scored:
    """One metric of a task. A metric without a filter's name is that of the task's first filter.

    Raises ConfigError when the task has no such metric, when it is no mean over the questions, and when nobody says
    which way is better.
    """
    metric = _metric(entry, answers)
    about = answers["metrics"][metric]
    means = sorted(name for name, one in answers["metrics"].items() if one["is_mean"])
    if not about["is_mean"]:
        cure = f"metrics with a value for each question: {', '.join(means) or 'none'}"
        raise ConfigError(
            f"{metric} of the task {entry.task} is no mean over its questions, so that candidate and production cannot "
            "be compared question by question",
            cure=cure,
        )
    told: dict[bool | None, Better] = {True: "higher", False: "lower"}
    better = entry.better or told.get(about["higher_is_better"])
    if better is None:
        raise ConfigError(
            f"the task {entry.task} does not say whether a higher {metric} is better",
            where="evals.yaml: capability",
            cure="say it there: better: higher, or better: lower",
        )
    found = tuple(
        SampleScore(
            id=answer["id"],
            score=answer["values"].get(metric),
            reason="" if metric in answer["values"] else f"lm-eval gave no {metric}",
            output=answer["output"],
        )
        for answer in answers["answers"]
    )
    return Scored(found, better)


def _metric(entry: Capability, answers: TaskAnswers) -> str:
    """The metric with its filter. The first filter's come first in each answer."""
    named = [name for name in answers["metrics"] if entry.metric in (name, name.partition(",")[0])]
    if not named:
        cure = f"metrics with a value for each question: {', '.join(sorted(answers['metrics'])) or 'none'}"
        raise ConfigError(f"the task {entry.task} has no metric {entry.metric!r} for its questions", cure=cure)
    return named[0]
