"""What the evals of a project need, and what its gate can show, asked before anything is trained."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from configs.contract import Contract
from configs.errors import ConfigError, Problem, require_all
from configs.evals import EvalsConfig
from configs.project import Project
from delivery.clients.judge import JudgeClient, key_of
from evals.power import Reach, reach
from evals.results import measures_of
from evals.scorers.judge import JudgeScorer
from evals.suites import FOLDER, SuiteConfig, load_suites, require_suites
from tasks.evals.capability import shipped_tasks
from tasks.evals.judging import require_judge


def require_evals(
    config: EvalsConfig, suite_folders: Sequence[Path], contract: Contract | None, environment: Mapping[str, str]
) -> None:
    """Raises one error with all that is wrong with suites, tasks, judges and what the gates name.

    `suite_folders` are the project's own; those that are shipped come after them.
    """
    places = (*suite_folders, FOLDER)
    tasks = [entry.task for entry in config.capability]
    require_all(
        "the evals cannot run",
        [
            partial(_require_behaviour, config, places, contract, environment),
            partial(shipped_tasks, tasks, environment, [place / "capability" for place in places]),
        ],
    )


def _require_behaviour(
    config: EvalsConfig, places: Sequence[Path], contract: Contract | None, environment: Mapping[str, str]
) -> None:
    suites = require_suites(config.behaviour, places, contract)
    for suite in suites:
        if isinstance(suite.scorer, JudgeScorer):
            require_judge(suite.scorer.judge_by, environment)
    require_measures(config, suites)
    _require_fields(config, places, contract)


def require_judges_answer(
    config: EvalsConfig, suite_folders: Sequence[Path], contract: Contract | None, environment: Mapping[str, str]
) -> None:
    """Raises SlipwayError where a suite's judge cannot be reached, or refuses its key."""
    try:
        suites = require_suites(config.behaviour, (*suite_folders, FOLDER), contract)
    except ConfigError:  # require_evals tells
        return
    judges = [suite.scorer.judge_by for suite in suites if isinstance(suite.scorer, JudgeScorer)]
    keys = [(judge, key_of(judge, environment)) for judge in judges]
    known = [JudgeClient(judge, key).require_answers for judge, key in keys if key is not None]
    require_all("the evals' judges do not answer", known)


def require_measures(config: EvalsConfig, suites: Sequence[SuiteConfig]) -> None:
    """Raises ConfigError for each gate on a measure that its suite does not have."""
    known = {suite.name: measures_of(suite) for suite in suites}
    problems = [
        Problem(
            f"evals.yaml: gates.{index}.suite",
            f"{gate.suite!r} is no measure of the suite",
            f"one of {', '.join(known[gate.suite.partition('/')[0]])}",
        )
        for index, gate in enumerate(config.gates)
        if gate.suite not in config.capability_suites
        and gate.suite not in known.get(gate.suite.partition("/")[0], (gate.suite,))
    ]
    if problems:
        raise ConfigError(f"{len(problems)} problem(s) in the gates", problems=problems)


def _require_fields(config: EvalsConfig, places: Sequence[Path], contract: Contract | None) -> None:
    """Raises ConfigError for each field of a gate's slices that no sample has; held-out rows are not there yet."""
    problems = []
    for index, gate in enumerate(config.gates):
        if not gate.slices or require_suites([gate.suite], places, contract)[0].is_held_out:
            continue
        samples = load_suites([gate.suite], places, contract=contract)[0].samples
        known = {name for sample in samples for name in sample.fields}
        problems += [
            Problem(
                f"evals.yaml: gates.{index}.slices.{number}.field",
                f"no sample of {gate.suite} has the field {one.field!r}",
                f"one of {', '.join(sorted(known)) or 'none: its samples have no fields'}",
            )
            for number, one in enumerate(gate.slices)
            if one.field not in known
        ]
    if problems:
        raise ConfigError(f"{len(problems)} problem(s) in the gates", problems=problems)


def count_samples(project: Project, held_out: int, environment: Mapping[str, str]) -> dict[str, int]:
    """How many samples each suite and shipped task has; those over the held-out rows as many as there are of these.

    A task that lm-eval looks up itself is not among them: nobody knows before it is asked.
    """
    places, contract = (*project.suite_folders, FOLDER), project.contract
    counts = {}
    for config in require_suites(project.evals.behaviour, places, contract):
        counts[config.name] = held_out if config.limit is None else min(held_out, config.limit)
        if not config.is_held_out:
            counts[config.name] = len(load_suites([config.name], places, contract=contract)[0].samples)
    tasks = [entry.task for entry in project.evals.capability]
    shipped = shipped_tasks(tasks, environment, [place / "capability" for place in places])
    for name, entry in project.evals.capability_suites.items():
        questions = shipped[entry.task].questions if entry.task in shipped else None
        if questions is not None:
            counts[name] = questions if entry.limit is None else min(questions, entry.limit)
    return counts


def gate_reach(config: EvalsConfig, samples: Mapping[str, int]) -> list[Reach]:
    """What each limit of the gate can show with so many samples of each suite.

    Measures over classes are told as if all samples of their suite were of one kind: they can show less than that.
    """
    found = []
    for gate in config.gates:
        n = samples.get(gate.suite) or samples.get(gate.suite.partition("/")[0])
        found += list(reach(gate, n)) if n else []
    return found
