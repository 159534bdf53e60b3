"""Suites as data: a folder with an eval.yaml, whose samples lie beside it or in a dataset version's held-out part.

A project's own suites lie in its `evals/` folder; those that Slipway ships are found by name as well.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from configs.contract import Contract
from configs.errors import ConfigError, Problem
from configs.loading import check
from configs.strict import Strict
from evals.samples import Reply, Sample, from_holdout
from evals.scorers.detector import DetectorScorer
from evals.scorers.function import FunctionScorer
from evals.scorers.judge import JudgeScorer
from evals.scorers.kinds import ScorerConfig
from evals.scorers.score import expected_texts, nothing_expected
from evals.versions import suite_version

FOLDER = Path(__file__).parent  # the suites that Slipway ships
HOLDOUT = "holdout"
MOST_PROBLEMS = 20  # of one file: a wrong setting is wrong for every row


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
    turn: Literal["first", "last"] = Field("last", description="which answer of a held-out row is asked for")
    expected: str | None = Field(
        None,
        description="the field of a held-out row that holds what is expected; by default a field `expected`, or else "
        "the row's own answer",
    )
    limit: int | None = Field(None, ge=1, description="only the first so many samples")

    @property
    def is_held_out(self) -> bool:
        """Whether its samples are a dataset version's."""
        return self.samples == HOLDOUT


@dataclass(frozen=True)
class Suite:
    """A suite that is ready to run. `version` changes with its samples, its settings and its scorer's code."""

    config: SuiteConfig
    scorer: ScorerConfig  # as the eval.yaml says, with files and the contract's detectors in place
    samples: tuple[Sample, ...]
    version: str


def load_suites(
    names: Sequence[str],
    places: Sequence[Path] = (FOLDER,),
    holdout: Path | None = None,
    contract: Contract | None = None,
) -> tuple[Suite, ...]:
    """The named suites, each from the first of the folders that has it. Raises one ConfigError with all problems.

    `holdout` is a dataset version's holdout.jsonl; suites over the held-out rows need it. `contract` has the detectors
    that suites may name.
    """
    suites, problems = [], []
    for name in names:
        suite, found = _load(name, places, holdout, contract)
        problems += found
        if suite is not None:
            suites.append(suite)
    if problems:
        raise ConfigError(f"{len(problems)} problem(s) in the eval suites", problems=problems)
    return tuple(suites)


def require_suites(
    names: Sequence[str], places: Sequence[Path] = (FOLDER,), contract: Contract | None = None
) -> tuple[SuiteConfig, ...]:
    """The suites' settings. Raises the ConfigError of `load_suites` for what is known without a dataset version."""
    configs, problems = [], []
    for name in names:
        config, path, found = _config(name, places)
        if config is not None:
            configs.append(config)
            if config.is_held_out:
                _, found = _placed(config.scorer, path, contract)
            else:
                _, found = _load(name, places, None, contract)
        problems += found
    if problems:
        raise ConfigError(f"{len(problems)} problem(s) in the eval suites", problems=problems)
    return tuple(configs)


def _config(name: str, places: Sequence[Path]) -> tuple[SuiteConfig | None, Path, list[Problem]]:
    path = next((p for p in (place / name / "eval.yaml" for place in places) if p.is_file()), None)
    if path is None:
        lists = [(place, sorted(p.parent.name for p in place.glob("*/eval.yaml"))) for place in places]
        known = "; ".join(f"suites in {place}: {', '.join(found) or 'none'}" for place, found in lists)
        missing = places[0] / name / "eval.yaml"
        return None, missing, [Problem(str(missing), "there is no such eval suite", known)]
    config, problems = check(path, SuiteConfig)
    if config is not None and config.name != name:
        return None, path, [Problem(f"{path}: name", f"{config.name!r} is not the folder's name", f"name: {name}")]
    return config, path, problems


def _load(
    name: str, places: Sequence[Path], holdout: Path | None, contract: Contract | None
) -> tuple[Suite | None, list[Problem]]:
    config, path, problems = _config(name, places)
    if config is None:
        return None, problems
    scorer, problems = _placed(config.scorer, path, contract)
    if scorer is None:
        return None, problems
    if config.is_held_out and holdout is None:
        cure = "evaluate a build that has a dataset version, or take the suite out of evals.yaml"
        return None, [Problem(f"{path}: samples", "needs a dataset version's held-out rows; there is none", cure)]
    if config.is_held_out and holdout is not None:
        source, as_sample = holdout, lambda row: from_holdout(row, config.turn, config.expected)
    else:
        source, as_sample = path.parent / config.samples, Sample.model_validate
    samples, problems = _read(source, as_sample, scorer, config.limit)
    if problems:
        return None, problems
    settings = config.model_dump(mode="json", by_alias=True, exclude={"description"})
    settings["scorer"] |= {"detector": scorer.detector.model_dump()} if isinstance(scorer, DetectorScorer) else {}  # type: ignore[union-attr]
    return Suite(config, scorer, samples, suite_version(settings, scorer, samples)), []


def _placed(scorer: ScorerConfig, path: Path, contract: Contract | None) -> tuple[ScorerConfig | None, list[Problem]]:
    try:
        if isinstance(scorer, FunctionScorer):
            return scorer.at(path.parent), []
        return (scorer.of(contract) if isinstance(scorer, DetectorScorer) else scorer), []
    except ValueError as error:
        return None, [Problem(f"{path}: scorer", *str(error).split(" -> ", 1))]


def _read(
    path: Path, as_sample: Callable[[Any], Sample], scorer: ScorerConfig, limit: int | None
) -> tuple[tuple[Sample, ...], list[Problem]]:
    samples: list[Sample] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:  # no other line ends: JSON may hold U+2028
            for number, line in enumerate(lines, start=1):
                if not line.strip() or len(problems) >= MOST_PROBLEMS:
                    continue
                if len(samples) == limit:
                    break
                where = f"{path}: line {number}"
                sample, found = _parse(line, where, as_sample)
                if sample is not None:
                    if (first := seen.setdefault(sample.id, number)) != number:
                        found.append(Problem(where, f"id {sample.id!r} is that of line {first}"))
                    found += [Problem(where, fault, "see docs/evals.md") for fault in _unusable(scorer, sample)]
                    samples.append(sample)
                problems += found
    except (OSError, UnicodeDecodeError) as error:
        return (), [Problem(str(path), f"cannot be read as UTF-8 text: {error}", "a suite needs a file of samples")]
    if not samples and not problems:
        problems.append(Problem(str(path), "holds no sample", "one JSON object a line"))
    return tuple(samples), problems


def _parse(line: str, where: str, as_sample: Callable[[Any], Sample]) -> tuple[Sample | None, list[Problem]]:
    try:
        return as_sample(json.loads(line)), []
    except ValidationError as error:
        found = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
        return None, [Problem(f"{where}: {at}" if at else where, *message.split(" -> ", 1)) for at, message in found]
    except (KeyError, TypeError, AttributeError) as error:
        return None, [Problem(where, f"not a sample: {error!r}")]
    except ValueError as error:
        return None, [Problem(where, *f"not a sample: {error}".split(" -> ", 1))]


def _unusable(scorer: ScorerConfig, sample: Sample) -> list[str]:
    """Why no reply to this sample could be judged: found now, and not when a GPU was spent."""
    if isinstance(scorer, FunctionScorer):
        return []
    if isinstance(scorer, JudgeScorer):
        return [] if expected_texts(sample) else [nothing_expected(sample).reason]
    score = scorer.judge(sample, (Reply("any reply"),))
    return [score.reason] if score.score is None else []
