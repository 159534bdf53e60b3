"""Suites as data: a folder with an eval.yaml, whose samples lie beside it or in a dataset version's held-out part."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from configs.canonical import digest_bytes, digest_of
from configs.errors import ConfigError, Problem
from configs.loading import check
from configs.strict import Strict
from evals import numbers, scorers, tutoring
from evals.samples import Sample, from_holdout
from evals.scorers import ScorerConfig

FOLDER = Path(__file__).parent  # the suites that the project ships
HOLDOUT = "holdout"


class SuiteConfig(Strict):
    """An eval.yaml."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="the same as the folder's")
    description: str = Field(min_length=1)
    kind: Literal["behaviour"] = "behaviour"
    scorer: ScorerConfig
    samples: str = Field(
        "samples.jsonl",
        description="file of samples, relative to the folder (suites that share one share its generations too), "
        "or `holdout`: the held-out rows of the dataset version under evaluation",
    )
    limit: int | None = Field(None, ge=1, description="only the first so many samples")


@dataclass(frozen=True)
class Suite:
    """A suite that is ready to run. `version` changes with its samples, its settings and the scorers' code."""

    config: SuiteConfig
    samples: tuple[Sample, ...]
    version: str


def load_suites(names: Sequence[str], folder: Path = FOLDER, holdout: Path | None = None) -> tuple[Suite, ...]:
    """The named suites. Raises one ConfigError with the problems of all of them.

    `holdout` is a dataset version's holdout.jsonl; suites over the held-out rows need it.
    """
    suites, problems = [], []
    for name in names:
        suite, found = _load(name, folder, holdout)
        problems += found
        if suite is not None:
            suites.append(suite)
    if problems:
        raise ConfigError(f"{len(problems)} problem(s) in the eval suites", problems=problems)
    return tuple(suites)


def require_suites(names: Sequence[str], folder: Path = FOLDER) -> None:
    """Raises the ConfigError of `load_suites` for what is known before there is a dataset version."""
    configs = {name: _config(name, folder) for name in names}
    problems = [problem for _, found in configs.values() for problem in found]
    for name, (config, _) in configs.items():
        if config is not None and config.samples != HOLDOUT:
            problems += _load(name, folder, None)[1]
    if problems:
        raise ConfigError(f"{len(problems)} problem(s) in the eval suites", problems=problems)


def _config(name: str, folder: Path) -> tuple[SuiteConfig | None, list[Problem]]:
    path = folder / name / "eval.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in folder.glob("*/eval.yaml"))) or "none"
        return None, [Problem(str(path), "there is no such eval suite", f"suites in {folder}: {known}")]
    config, problems = check(path, SuiteConfig)
    if config is not None and config.name != name:
        return None, [Problem(f"{path}: name", f"{config.name!r} is not the folder's name", f"name: {name}")]
    return config, problems


def _load(name: str, folder: Path, holdout: Path | None) -> tuple[Suite | None, list[Problem]]:
    path = folder / name / "eval.yaml"
    config, problems = _config(name, folder)
    if config is None:
        return None, problems
    if config.samples == HOLDOUT and holdout is None:
        cure = "evaluate a build that has a dataset version, or take the suite out of evals.yaml"
        return None, [Problem(f"{path}: samples", "needs a dataset version's held-out rows; there is none", cure)]
    source = holdout if config.samples == HOLDOUT and holdout else path.parent / config.samples
    samples, problems = _read(source, held_out=config.samples == HOLDOUT)
    if problems:
        return None, problems
    samples = samples[: config.limit]
    return Suite(config, samples, _version(config, samples)), []


def _read(path: Path, held_out: bool) -> tuple[tuple[Sample, ...], list[Problem]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        return (), [Problem(str(path), f"cannot be read as UTF-8 text: {error}", "a suite needs a file of samples")]
    samples: list[Sample] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        sample, found = _parse(line, f"{path}: line {number}", held_out)
        problems += found
        if sample is None:
            continue
        if (first := seen.setdefault(sample.id, number)) != number:
            problems.append(Problem(f"{path}: line {number}", f"id {sample.id!r} is that of line {first}"))
        samples.append(sample)
    if not samples and not problems:
        problems.append(Problem(str(path), "holds no sample", "one JSON object a line"))
    return tuple(samples), problems


def _parse(line: str, where: str, held_out: bool) -> tuple[Sample | None, list[Problem]]:
    try:
        row: Any = json.loads(line)
        return Sample.model_validate(from_holdout(row) if held_out else row), []
    except ValidationError as error:
        found = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
        return None, [Problem(f"{where}: {at}" if at else where, *message.split(" -> ", 1)) for at, message in found]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, [Problem(where, f"not a sample: {error!r}")]


def _version(config: SuiteConfig, samples: Sequence[Sample]) -> str:
    code = [digest_bytes(Path(module.__file__ or "").read_bytes()) for module in (numbers, scorers, tutoring)]
    rows = [sample.model_dump(mode="json") for sample in samples]
    return digest_of({"config": config.model_dump(mode="json", exclude={"description"}), "samples": rows, "code": code})
