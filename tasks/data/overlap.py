"""Compares a dataset version's training part with what the project's eval suites ask."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from configs.contract import Contract
from configs.evals import EvalsConfig
from delivery.build.dataset import DatasetVersion
from delivery.build.overlap import Asked, Overlap, find_overlap
from evals.suites import FOLDER, HOLDOUT, Suite, load_suites
from tasks.evals.capability import TaskFile, shipped_tasks

_HOLE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def eval_overlap(
    version: DatasetVersion,
    evals: EvalsConfig,
    suites_folders: Sequence[Path] = (FOLDER,),
    contract: Contract | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Overlap:
    """The questions of behavioural suites and of the capability tasks at hand that the training part holds.

    Suites over the held-out rows are left out, for the split keeps them apart; so are tasks that lm-eval brings along
    itself, and the result names those. `suites_folders` and `contract` are those of the evals. Raises ConfigError for
    suites that cannot be read.
    """
    suites = load_suites(evals.behaviour, suites_folders, version.folder / "holdout.jsonl", contract)
    tasks = {one.task for one in evals.capability}
    shipped = shipped_tasks(sorted(tasks), environment, [place / "capability" for place in suites_folders])
    asked = [*_behaviour(suites), *_capability(shipped)]
    not_compared = tasks - {one.suite for one in asked}
    return replace(find_overlap(asked, _rows(version)), not_compared=tuple(sorted(not_compared)))


def _rows(version: DatasetVersion) -> Iterator[tuple[str, Sequence[str]]]:
    with (version.folder / "train.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            messages = [m for name in ("messages", "prompt", "chosen") for m in row.get(name, ())]
            yield row["id"], [message["content"] for message in messages]


def _behaviour(suites: Sequence[Suite]) -> Iterator[Asked]:
    for suite in suites:
        if suite.config.samples != HOLDOUT:
            for sample in suite.samples:
                yield Asked(suite.config.name, sample.id, sample.messages[0].content or "")


def _capability(shipped: Mapping[str, TaskFile]) -> Iterator[Asked]:
    """What the shipped tasks' files hold in the fields that `doc_to_text` names."""
    for name, task in shipped.items():
        said: dict[str, Any] = yaml.safe_load(task.text)
        fields = set(re.findall(r"\w+", " ".join(_HOLE.findall(str(said.get("doc_to_text", ""))))))
        for file in said["dataset_kwargs"]["data_files"].values():
            with Path(file).open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    doc = json.loads(line)
                    texts = [doc[key] for key in sorted(fields & doc.keys()) if isinstance(doc[key], str)]
                    if texts:
                        yield Asked(name, f"line {number}", "\n".join(texts))
