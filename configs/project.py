"""One folder of YAML files that together say how a route's adapter is built and released."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.dataset import DatasetRecipe
from configs.environment import Environment
from configs.errors import ConfigError, Problem
from configs.evals import EvalsConfig
from configs.loading import check
from configs.model import ModelConfig
from configs.prompts import Prompts
from configs.rollout import RolloutPlan
from configs.training import TrainingConfig

FILES: dict[str, type[Any]] = {
    "model": ModelConfig,
    "dataset": DatasetRecipe,
    "training": TrainingConfig,
    "prompts": Prompts,
    "evals": EvalsConfig,
    "rollout": RolloutPlan,
    "environment": Environment,
}


@dataclass(frozen=True)
class Project:
    """The parsed folder; its name is the route that clients ask for."""

    folder: Path
    route: str
    model: ModelConfig
    dataset: DatasetRecipe
    training: TrainingConfig
    prompts: Prompts
    evals: EvalsConfig
    rollout: RolloutPlan
    environment: Environment


def load_project(folder: Path) -> Project:
    """All seven files of a folder. Raises one ConfigError with the problems of all of them."""
    if not folder.is_dir():
        near = sorted(p.parent.name for p in Path("configs").glob("*/rollout.yaml"))
        raise ConfigError(f"there is no folder {folder}", cure=f"known here: {', '.join(near) or 'none'}")
    parts: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, model in FILES.items():
        parts[name], found = check(folder / f"{name}.yaml", model)
        problems += found
    if not problems:
        problems = _disagreements(folder, parts)
    if problems:
        raise ConfigError(f"{folder} cannot be used: {len(problems)} problem(s)", problems=problems)
    return Project(folder=folder, route=folder.name, **parts)


def _disagreements(folder: Path, parts: dict[str, Any]) -> list[Problem]:
    """What is right in each file alone, and wrong together; found before a GPU is spent."""
    found = []
    rank, served = parts["training"].lora.rank, parts["environment"].vllm.max_lora_rank
    if rank > served:
        found.append(
            Problem(
                f"{folder}/training.yaml: lora.rank",
                f"rank {rank} is above vLLM's max_lora_rank {served}",
                "lower the rank, or raise vllm.max_lora_rank in environment.yaml",
            )
        )
    context, row = parts["model"].max_context_tokens, parts["training"].max_sequence_tokens
    if row > context:
        found.append(
            Problem(
                f"{folder}/training.yaml: max_sequence_tokens",
                f"{row} is above the model's max_context_tokens {context}",
                "lower it, or raise max_context_tokens in model.yaml",
            )
        )
    longest = parts["dataset"].filters.max_row_tokens
    if longest > row:
        found.append(
            Problem(
                f"{folder}/dataset.yaml: filters.max_row_tokens",
                f"{longest} lets rows in that training (max_sequence_tokens {row}) refuses",
                "make both the same",
            )
        )
    return found
