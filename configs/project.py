"""One folder of YAML files that together say how a route's adapter is built and released."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from configs.contract import Contract
from configs.dataset import DatasetRecipe
from configs.environment import Environment
from configs.errors import ConfigError, Problem
from configs.evals import EvalsConfig
from configs.licenses import License, license_field
from configs.loading import check
from configs.model import ModelConfig
from configs.pool import Pool
from configs.prompts import Prompts
from configs.rollout import RolloutPlan
from configs.strict import Strict
from configs.training import TrainingConfig


class ProjectFile(Strict):
    """`project.yaml`, which a folder may leave out: what ties it to a route and to another folder."""

    route: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9._-]*$", description="the name that clients ask for; by default the folder's"
    )
    extends: Path | None = Field(
        None, description="a folder, relative to this one, whose files stand in for missing ones"
    )
    license: License = license_field("the adapter that is built")


FILES: dict[str, type[Any]] = {
    "model": ModelConfig,
    "dataset": DatasetRecipe,
    "training": TrainingConfig,
    "prompts": Prompts,
    "evals": EvalsConfig,
    "rollout": RolloutPlan,
    "environment": Environment,
}
OPTIONAL: dict[str, type[Any]] = {"contract": Contract, "pool": Pool}


@dataclass(frozen=True)
class Project:
    """The parsed folder."""

    folder: Path
    route: str
    dataset_folder: Path  # what the sources' paths are relative to
    suite_folders: tuple[Path, ...]  # where its eval suites and tasks are looked for, before those that are shipped
    model: ModelConfig
    dataset: DatasetRecipe
    training: TrainingConfig
    prompts: Prompts
    evals: EvalsConfig
    rollout: RolloutPlan
    environment: Environment
    contract: Contract | None  # None: answers are not judged
    license: str | None = None  # of the adapter
    pool: Pool | None = None  # None: builds run where they are started


@dataclass(frozen=True)
class Draft:
    """A folder as far as it can be read."""

    folder: Path
    route: str
    dataset_folder: Path
    suite_folders: tuple[Path, ...]
    parts: Mapping[str, Any]  # by the file's name, those without a problem
    problems: tuple[Problem, ...]
    license: str | None = None

    def project(self) -> Project:
        """The project. Raises one ConfigError with the problems of all files."""
        if self.problems:
            what = f"{self.folder} cannot be used: {len(self.problems)} problem(s)"
            raise ConfigError(what, problems=self.problems)
        parts = {**dict.fromkeys(OPTIONAL), **self.parts}
        return Project(
            folder=self.folder,
            route=self.route,
            dataset_folder=self.dataset_folder,
            suite_folders=self.suite_folders,
            license=self.license,
            **parts,
        )


def load_project(folder: Path) -> Project:
    """All files of a folder. Raises one ConfigError with the problems of all of them."""
    return read_project(folder).project()


def read_project(folder: Path) -> Draft:
    """All files of a folder, with what is wrong with them. Raises ConfigError when there is no folder."""
    if not os.path.isdir(folder):  # unlike is_dir, False for too long a name or a closed folder
        near = sorted(p.parent.name for p in Path("configs").glob("*/rollout.yaml"))
        raise ConfigError(f"there is no folder {folder}", cure=f"known here: {', '.join(near) or 'none'}")
    head, folders, problems = _chain(folder)
    known = FILES | OPTIONAL
    files = {name: _file(folders, name) for name in known}
    absent = OPTIONAL if not problems else known  # which files stand in for missing ones is not known then
    files = {name: path for name, path in files.items() if name not in absent or os.path.exists(path)}
    read = {name: check(path, known[name]) for name, path in files.items()}
    problems = [*problems, *(problem for _, found in read.values() for problem in found)]
    parts = {name: part for name, (part, _) in read.items() if part is not None}
    if not problems:
        problems = _disagreements(files, parts)
    route, data = head.route or folder.resolve().name, files.get("dataset", folder / "dataset.yaml")
    suites = tuple(place / "evals" for place in folders if os.path.isdir(place / "evals"))
    return Draft(folder, route, data.parent, suites, parts, tuple(problems), head.license)


def _head(folder: Path) -> tuple[ProjectFile, list[Problem]]:
    path = folder / "project.yaml"
    if not os.path.exists(path):
        return ProjectFile(), []
    head, problems = check(path, ProjectFile)
    if head is not None and head.extends is not None and not os.path.isdir(folder / head.extends):
        near = ", ".join(sorted(p.parent.name for p in folder.parent.glob("*/model.yaml")))
        cure = f"folders beside this one: {near or 'none'}"
        problems.append(Problem(f"{path}: extends", f"there is no folder {folder / head.extends}", cure))
    return head or ProjectFile(), problems


def _chain(folder: Path) -> tuple[ProjectFile, list[Path], list[Problem]]:
    """The folder's own head, and the folders whose files count, nearest first."""
    own, problems = _head(folder)
    folders, head = [folder], own
    while head.extends is not None and not problems:
        following = folders[-1] / head.extends
        if following.resolve() in [known.resolve() for known in folders]:
            way = " -> ".join(str(known) for known in [*folders, following])
            problems.append(Problem(f"{folders[-1]}/project.yaml: extends", f"goes round in a circle: {way}"))
        else:
            folders.append(following)
            head, problems = _head(following)
    return own, folders, problems


def _file(folders: list[Path], name: str) -> Path:
    """The nearest folder that has it; the first, where none has."""
    paths = [folder / f"{name}.yaml" for folder in folders]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def _disagreements(files: dict[str, Path], parts: dict[str, Any]) -> list[Problem]:
    """What is right in each file alone, and wrong together; found before a GPU is spent."""
    found = []
    rank, served = parts["training"].lora.rank, parts["environment"].vllm.max_lora_rank
    if rank > served:
        found.append(
            Problem(
                f"{files['training']}: lora.rank",
                f"rank {rank} is above vLLM's max_lora_rank {served}",
                "lower the rank, or raise vllm.max_lora_rank in environment.yaml",
            )
        )
    context, row = parts["model"].max_context_tokens, parts["training"].max_sequence_tokens
    if row > context:
        found.append(
            Problem(
                f"{files['training']}: max_sequence_tokens",
                f"{row} is above the model's max_context_tokens {context}",
                "lower it, or raise max_context_tokens in model.yaml",
            )
        )
    answer = parts["prompts"].sampling.max_tokens
    if answer >= context:
        found.append(
            Problem(
                f"{files['prompts']}: sampling.max_tokens",
                f"{answer} leaves no room for a prompt in the model's max_context_tokens {context}",
                "lower it, or raise max_context_tokens in model.yaml",
            )
        )
    longest = parts["dataset"].filters.max_row_tokens
    if longest > row:
        found.append(
            Problem(
                f"{files['dataset']}: filters.max_row_tokens",
                f"{longest} lets rows in that training (max_sequence_tokens {row}) refuses",
                "make both the same",
            )
        )
    return found + _undetectable(files, parts)


def _undetectable(files: dict[str, Path], parts: dict[str, Any]) -> list[Problem]:
    """Checks on a detector that the contract does not have: they could only ever be inconclusive."""
    contract = parts.get("contract")
    known = sorted(contract.detectors) if contract else []
    cure = f"known detectors: {', '.join(known)}" if known else "write a contract.yaml with this detector"
    return [
        Problem(f"{files['rollout']}: checks.{index}.metric", f"{check.metric} names no detector of the contract", cure)
        for index, check in enumerate(parts["rollout"].checks)
        if check.detector and check.detector not in known
    ]
