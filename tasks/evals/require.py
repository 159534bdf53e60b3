"""What the evals of a project need, asked before anything is trained."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from configs.contract import Contract
from configs.errors import ConfigError, Problem, require_all
from configs.evals import EvalsConfig
from delivery.clients.judge import JudgeClient, key_of
from evals.results import measures_of
from evals.scorers.judge import JudgeScorer
from evals.suites import FOLDER, SuiteConfig, require_suites
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
