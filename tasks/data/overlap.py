"""Compares a dataset version's training part with what the project's eval suites ask."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from configs.canonical import short
from configs.contract import Contract
from configs.evals import EvalsConfig
from delivery.build.dataset import DatasetVersion
from delivery.build.overlap import Overlap, SuiteQuestion, find_overlap
from evals.suites import FOLDER, Suite, load_suites, require_suites
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
    asked = questions_of(evals, suites_folders, contract, environment)
    not_compared = {one.task for one in evals.capability} - {one.suite for one in asked}
    return replace(find_overlap(asked, _rows(version)), not_compared=tuple(sorted(not_compared)))


def questions_of(
    evals: EvalsConfig,
    suites_folders: Sequence[Path] = (FOLDER,),
    contract: Contract | None = None,
    environment: Mapping[str, str] = os.environ,
) -> list[SuiteQuestion]:
    """What is asked besides held-out rows. Raises ConfigError for suites that cannot be read."""
    configs = require_suites(evals.behaviour, suites_folders, contract)
    own = [name for name, one in zip(evals.behaviour, configs, strict=True) if not one.is_held_out]
    suites = load_suites(own, suites_folders, contract=contract)
    tasks = sorted({one.task for one in evals.capability})
    shipped = shipped_tasks(tasks, environment, [place / "capability" for place in suites_folders])
    return [*_behaviour(suites), *_capability(shipped)]


def texts_of(row: Mapping[str, Any]) -> list[str]:
    """What of a row of train.jsonl is compared with questions."""
    return [message["content"] for name in ("messages", "prompt", "chosen") for message in row.get(name, ())]


def write_matches(version: DatasetVersion, overlap: Overlap) -> Path | None:
    """Every match as JSON lines beside the version, which is not changed by it; None where there is none."""
    if not overlap.matches:
        return None
    path = version.folder.parent / f"overlap-{short(version.digest)}.jsonl"
    lines = [
        {"suite": one.asked.suite, "sample": one.asked.sample, "row": one.row, "share": round(one.share, 3)}
        | {"question": one.asked.text}
        for one in overlap.matches
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def _rows(version: DatasetVersion) -> Iterator[tuple[str, Sequence[str]]]:
    with (version.folder / "train.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["id"], texts_of(row)


def _behaviour(suites: Sequence[Suite]) -> Iterator[SuiteQuestion]:
    for suite in suites:
        for sample in suite.samples:
            yield SuiteQuestion(suite.config.name, sample.id, sample.messages[0].content or "")


def _capability(shipped: Mapping[str, TaskFile]) -> Iterator[SuiteQuestion]:
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
                        yield SuiteQuestion(name, f"line {number}", "\n".join(texts))
