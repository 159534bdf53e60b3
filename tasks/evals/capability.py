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
from typing import Any

import httpx
from pydantic import BaseModel, Field

from configs.canonical import digest_bytes, digest_of
from configs.errors import ConfigError, Problem, SlipwayError
from configs.evals import Capability
from configs.loading import check_text, read_text
from delivery.clients.fresh_folder import fresh_folder
from delivery.progress import Progress
from evals.report import SampleScore
from tasks import child

SHIPPED = Path(__file__).parents[2] / "evals" / "capability"

_VARIABLE = re.compile(r"\$\{(\w+)\}")

Answers = list[dict[str, Any]]  # one a question: {"id", "values": {metric: number}, "output"}


@dataclass(frozen=True)
class TaskFile:
    """A shipped task's YAML with its paths filled in; `version` covers it and its data, wherever they lie."""

    text: str
    version: str


def task_version(entry: Capability, shipped: TaskFile | None) -> str:
    """What must be equal for two results of one task to be comparable."""
    content = shipped.version if shipped else None
    return digest_of({"task": entry.task, "limit": entry.limit, "content": content, "lm_eval": version("lm_eval")})


class _DatasetKwargs(BaseModel):
    data_files: dict[str, str] = Field(default_factory=dict)


class _Task(BaseModel):
    """Of a shipped task what is looked at here; lm-eval knows the rest."""

    task: str
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
    return TaskFile(text, digest_of({"yaml": digest_bytes(path.read_bytes()), "data": data})), []


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
) -> dict[str, Answers]:
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
        answers: dict[str, Answers] = json.loads(result.read_text(encoding="utf-8"))
        return answers


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


def scores(entry: Capability, answers: Answers) -> tuple[SampleScore, ...]:
    """The values of one metric, question by question. Raises ConfigError when the task has no such metric."""
    known = sorted({metric for answer in answers for metric in answer["values"]})
    if entry.metric not in known:
        cure = f"metrics with a value for each question: {', '.join(known) or 'none'}"
        raise ConfigError(f"the task {entry.task} has no metric {entry.metric!r} for its questions", cure=cure)
    return tuple(
        SampleScore(
            id=answer["id"],
            score=answer["values"].get(entry.metric),
            reason="" if entry.metric in answer["values"] else f"lm-eval gave no {entry.metric}",
            output=answer["output"],
        )
        for answer in answers
    )
