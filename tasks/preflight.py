"""What can be known to fail is said before anything is done, all of it at once.

Everything here takes a second at most, and would otherwise end a command after half a minute (a port in use, once the
base model is dequantised) or an hour (no vLLM to evaluate on, a plan that sees nothing).
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from configs.contract import Contract
from configs.dataset import DatasetRecipe
from configs.docker import DockerTarget
from configs.environment import Environment
from configs.errors import SlipwayError, require_all
from configs.evals import EvalsConfig
from configs.judge import Judge
from configs.project import Project, read_project
from configs.rollout import RolloutPlan
from configs.target import LocalTarget, members_of
from configs.urls import base_url, is_base_url
from delivery.checks.forecast import refuse_blind, refuse_empty
from delivery.clients.at_once import at_once
from tasks.data.sources import locate_all
from tasks.evals.model_server import require_place
from tasks.evals.require import require_evals, require_judges_answer
from tasks.mirror import mirror_of
from tasks.release.judge import open_judge
from tasks.release.published import require_signable
from tasks.release.site import Site, open_ledger, open_site_of
from tasks.serving.targets import target_of
from tasks.training.fit import require_fit
from tasks.training.model import is_prepared, prepared_folder, require_source

ROOM_BYTES = 500_000_000  # the whole demo leaves 363 MB: the base model, three adapters, bundles, logs
START_ROOM_BYTES = 5_000_000  # a start leaves logs, pid files, a routing table and rows in the ledger: less than 1 MB

Precheck = Callable[[], object]  # raises SlipwayError


def load_for(folder: Path, home: Path, what: str, checks: Callable[[Project], Iterable[Precheck]]) -> Project:
    """The folder's project, once all of `checks` have passed.

    Where its files are wrong, the one error tells also what can be told of data, suites and base model without them.
    """
    draft = read_project(folder)
    if draft.problems:
        model, dataset, evals = (draft.parts.get(name) for name in ("model", "dataset", "evals"))
        source = [partial(require_source, model)] if model is not None else []
        contract = draft.parts.get("contract")
        inputs = _inputs(dataset, draft.dataset_folder, evals, draft.suite_folders, contract)
        require_all(what, [draft.project, *source, *inputs])
    project = draft.project()
    require_all(what, checks(project))
    return project


def before_up(project: Project, home: Path) -> Iterator[Precheck]:
    """What `slipway up` needs: a place to write, the base model, the ledger, and what its target needs."""
    environment = project.environment
    # what has served already must come back on a disk that has filled up since
    needed = START_ROOM_BYTES if is_prepared(project.model, home) else ROOM_BYTES
    yield from _everywhere(project, home, needed)
    yield from target_of(environment, home).before_up()


def before_build(project: Project, home: Path) -> Iterator[Precheck]:
    """What `slipway build` needs: besides a place and vLLM the dataset's files, the suites and the tasks' data."""
    yield from _everywhere(project, home)
    yield mirror_of(project.environment, home).require
    yield partial(_require_fit, project, home)
    yield partial(require_place, project, home)
    yield from _inputs(project.dataset, project.dataset_folder, project.evals, project.suite_folders, project.contract)
    yield partial(require_judges_answer, project.evals, project.suite_folders, project.contract, os.environ)


def before_check(project: Project) -> Iterator[Precheck]:
    """What `slipway check` needs: the base model's source, the dataset's files, the suites and the tasks' data."""
    yield partial(require_source, project.model)
    yield from _inputs(project.dataset, project.dataset_folder, project.evals, project.suite_folders, project.contract)


def before_release(
    project: Project,
    home: Path,
    candidate_upstreams: Sequence[str] | None = None,
    *,
    accept_blind_plan: bool = False,
) -> Iterator[Precheck]:
    """What `slipway release` needs: a plan that sees something, its judge's key, a gateway and replicas that answer.

    A release that is under way goes on without key and answers: whoever restarts what died needs its controller.
    """
    if not accept_blind_plan:
        yield partial(refuse_blind, project.rollout)
        yield partial(refuse_empty, project.rollout)
    upstreams = candidate_upstreams or ()
    yield from (partial(_require_base_url, url) for url in upstreams)
    yield partial(_require_answers, project, home, [url for url in upstreams if is_base_url(url)])


def warnings_before_release(environment: Environment, plan: RolloutPlan) -> list[str]:
    """What will not end a release, and keeps it from showing what it is meant to show."""
    in_front = [f"{index}-{stage.kind}" for index, stage in enumerate(plan.stages) if stage.kind != "shadow"]
    gateway = environment.gateway
    is_here = any(isinstance(one, LocalTarget | DockerTarget) for one in members_of(environment.target).values())
    if not (in_front and is_here and gateway.counts_users_as_one):
        return []
    return [
        f"gateway.host is {gateway.host} and nobody needs an API key: users who name themselves there count as one, so"
        f" that {', '.join(in_front)} never gather evidence of independent users -> give out keys (gateway.api_keys),"
        " or say gateway.trust_user_names: true where something of yours in front sets the names"
    ]


def before_refresh(project: Project, home: Path, accept_blind_plan: bool = False) -> Iterator[Precheck]:
    """What `slipway refresh` needs: all that its build and its release need, before it trains."""
    yield from before_build(project, home)
    yield from before_release(project, home, accept_blind_plan=accept_blind_plan)
    yield partial(require_signable, project.environment, project.route, time.time())


def before_watch(project: Project, home: Path) -> Iterator[Precheck]:
    """What `slipway watch` needs: the ledger. Gateways and replicas may be away; it is there to notice."""
    yield partial(_require_ledger, project.environment, home)


def _inputs(
    dataset: DatasetRecipe | None,
    folder: Path,
    evals: EvalsConfig | None,
    suite_folders: Sequence[Path],
    contract: Contract | None,
) -> Iterator[Precheck]:
    if dataset is not None:
        yield partial(locate_all, [one for one in dataset.sources if one.review is None], folder)
    if evals is not None:
        yield partial(require_evals, evals, suite_folders, contract, os.environ)


def _everywhere(project: Project, home: Path, needed_bytes: int = ROOM_BYTES) -> Iterator[Precheck]:
    yield partial(require_disk_room, home, needed_bytes)
    yield partial(require_source, project.model)
    yield partial(_require_ledger, project.environment, home)


def require_disk_room(home: Path, needed_bytes: int = ROOM_BYTES) -> None:
    """Raises SlipwayError when the state folder cannot be written, or its disk is all but full."""
    place = home.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise SlipwayError(f"{place} is a file", where="--home", cure="name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        cure = "give this user the right to write there, or name another state folder: --home FOLDER"
        raise SlipwayError(f"{place} cannot be written", where="--home", cure=cure)
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise SlipwayError(
            f"{place} has {free / 1e6:,.0f} MB left, {needed_bytes / 1e6:,.0f} MB are needed",
            where="--home",
            cure="make room there, or name a state folder on another disk: --home FOLDER",
        )


def _require_fit(project: Project, home: Path) -> None:
    """Of a base model that is there already; one that must be prepared first is looked at then."""
    folder = prepared_folder(project.model, home)
    if folder is not None:
        require_fit(project, folder)


def _require_ledger(environment: Environment, home: Path) -> None:
    open_ledger(environment, home).close()


def _require_answers(project: Project, home: Path, candidate_upstreams: Sequence[str]) -> None:
    with open_site_of(project, home) as site:
        if site.ledger.unfinished(site.name, project.route) is None:
            judge = project.rollout.judge
            needed = [partial(site.require_route, project.route), *([partial(_require_judge, judge)] if judge else ())]
            require_all("the environment does not answer", [*needed, *_answers(site, candidate_upstreams)])


def _require_judge(judge: Judge) -> None:
    open_judge(judge).require_answers()


def _answers(site: Site, candidate_upstreams: Sequence[str]) -> Iterator[Precheck]:
    """Every gateway and every replica, asked at the same time."""
    asked: dict[str, Callable[[], object]] = {name: client.table for name, client in site.gateways.items()}
    asked |= {url: site.vllm(url).models for url in (*site.upstreams, *map(base_url, candidate_upstreams))}
    yield from (partial(_not_an_error, answer) for answer in at_once(asked).values())


def _not_an_error(answer: object) -> None:
    if isinstance(answer, SlipwayError):
        raise answer


def _require_base_url(url: str) -> None:
    try:
        base_url(url)
    except ValueError as error:
        what, _, cure = str(error).partition(" -> ")
        raise SlipwayError(what, where="candidate upstream", cure=cure) from None
