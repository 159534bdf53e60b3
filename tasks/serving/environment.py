"""One environment from the outside: started, stopped, and how it is. It heals itself while its supervisor runs."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.errors import SlipwayError, require_all
from configs.project import Project
from configs.routing import RoutingTable
from delivery.build.refresh import RefreshSaid
from delivery.clients.at_once import at_once
from delivery.clients.gateway import GatewayClient
from delivery.clients.ledger.ledger import LeaseHeldError
from delivery.clients.ledger.outbox import Waiting
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.progress import Progress
from delivery.release.state import ReleaseState
from delivery.traffic.assignment import shares
from tasks.preflight import before_up
from tasks.release.bundle import base_bundle
from tasks.release.left_behind import left_behind
from tasks.release.run import PATIENCE_S
from tasks.release.site import Site, open_site_of
from tasks.release.start import bootstrap
from tasks.serving import local as serving
from tasks.serving.docker.target import end_all
from tasks.serving.target import ModelToServe, PartState, Target
from tasks.serving.targets import target_of
from tasks.training.model import model_revision, prepare_model
from tasks.training.template import system_place


@dataclass(frozen=True)
class EnvironmentStatus:
    """What runs, what is served, and what is under way."""

    parts: tuple[PartState, ...]
    supervisor_pid: int | None
    revision: int | None  # None: no gateway answers
    behind: tuple[str, ...]  # gateways that answer and serve another table
    lease_remaining_s: float | None
    shares: dict[str, int]  # variant -> basis points of the users
    live: str | None  # bundle digest
    previous: str | None
    unfinished: ReleaseState | None
    left_behind: str | None  # the release whose rollback was asked for, or begun, and has no controller
    untold: tuple[Waiting, ...] = ()  # messages that did not reach their receivers yet
    refresh: RefreshSaid | None = None  # what the newest refresh said of itself


def start(project: Project, home: Path, on_progress: Progress, *, attached: bool = False) -> Target:
    """vLLM, the gateway and their supervisor run, and the route serves what the ledger says is live.

    Where others run vLLM and gateways they are checked and registered, and only the supervisor is started.

    `attached`: they end with this process, however it ends. When it fails or is interrupted, nothing that this call
    started is left, and what ran before runs on.
    """
    require_all("slipway up cannot start", before_up(project, home))
    base = prepare_model(project.model, home, on_progress)
    target = target_of(project.environment, home)
    model = ModelToServe(project.model.name, base, project.model.max_context_tokens)
    with target.up(model, on_progress, attached=attached):
        with open_site_of(project, home) as site:
            _serve_live_or_leave_it(site, project, base, on_progress)
        folder = serving.environment_folder(project.environment, home)
        try:
            if processes.find(serving.SUPERVISOR, folder) is None:
                processes.launch(_supervisor_command(project, home), folder, attached=attached)
        except BaseException:
            processes.end_own(serving.SUPERVISOR, folder)
            raise
    return target


def stop(project: Project, home: Path) -> tuple[str, ...]:
    """Ends the supervisor first, so that nothing comes back; the names of what ran."""
    folder = serving.environment_folder(project.environment, home)
    with processes.exclusive(folder):
        ended = (serving.SUPERVISOR,) if processes.stop(serving.SUPERVISOR, folder) else ()
    return ended + target_of(project.environment, home).down()


def stop_all(home: Path) -> tuple[str, ...]:
    """Ends whatever a pid file below the state folder names, and its containers; the names of what ran.

    For a state folder that is to be removed: without its pid files nothing that runs on could be found again.
    """
    ended: list[str] = []
    for folder in sorted({file.parent for file in home.rglob("*.pid")}):
        with processes.exclusive(folder):
            names = sorted((file.stem for file in folder.glob("*.pid")), key=lambda n: (n != serving.SUPERVISOR, n))
            ended += [str(folder.relative_to(home) / name) for name in names if processes.stop(name, folder)]
    return (*ended, *end_all(home))


def status(project: Project, home: Path) -> EnvironmentStatus:
    """How the environment is; works whether or not anything runs."""
    environment = project.environment
    supervisor = processes.find(serving.SUPERVISOR, serving.environment_folder(environment, home))
    with open_site_of(project, home) as site:
        table, remaining, behind = _routing(site)
        served = shares(table.routes[project.route]) if table is not None and project.route in table.routes else {}
        row = site.ledger.route(environment.name, project.route)
        lost = left_behind(site, project.route)
        return EnvironmentStatus(
            parts=site.target.state(),
            supervisor_pid=supervisor.pid if supervisor else None,
            revision=table.revision if table is not None else None,
            behind=behind,
            lease_remaining_s=remaining,
            shares=served,
            live=row.live.bundle if row else None,
            previous=row.previous.bundle if row and row.previous else None,
            unfinished=site.ledger.unfinished(environment.name, project.route),
            left_behind=lost.release_id if lost else None,
            untold=tuple(site.ledger.outbox.waiting(environment.name)),
            refresh=site.ledger.refresh_said(environment.name, project.route),
        )


def _routing(site: Site) -> tuple[RoutingTable | None, float | None, tuple[str, ...]]:
    """The newest table that a gateway serves, what is left of its lease, and the gateways that serve another one."""
    seen = at_once({name: partial(_served_by, client) for name, client in site.gateways.items()})
    found = {name: one for name, one in seen.items() if not isinstance(one, SlipwayError)}
    tables = [table for table, _ in found.values() if table is not None]
    newest = max(tables, key=lambda table: table.revision, default=None)
    leases = [lease for table, lease in found.values() if table == newest and lease is not None]
    behind = tuple(sorted(name for name, (table, _) in found.items() if table != newest))
    return newest, min(leases, default=None), behind


def _served_by(client: GatewayClient) -> tuple[RoutingTable | None, float | None]:
    return client.table(), client.records(0, 1).lease_remaining_s


def serve_live(site: Site, project: Project, base: Path, on_progress: Progress, patience_s: float = 0.0) -> None:
    """The gateway serves what the ledger says is live, its adapter loaded and probed before.

    LeaseHeldError: somebody else controls the environment, and still did after `patience_s`.
    """
    place = system_place(base, project.prompts.chat_template_kwargs)
    bundle = base_bundle(project, model_revision(base), site.home, place)
    bootstrap(site, project.route, bundle, project.rollout.lease_s, on_progress, patience_s)


def _serve_live_or_leave_it(site: Site, project: Project, base: Path, on_progress: Progress) -> None:
    """Leaves it to the controller of a release of this route, where one is at work: it loads again what is missing."""
    try:
        serve_live(site, project, base, on_progress, PATIENCE_S)
    except LeaseHeldError:
        under_way = site.ledger.unfinished(site.name, project.route)
        if under_way is None:
            raise
        on_progress(1, 1, f"release {under_way.release_id} is under way: its controller sees to what is served")


def _supervisor_command(project: Project, home: Path) -> ProcessCommand:
    arguments = (str(project.folder.absolute()), str(home.absolute()))
    return ProcessCommand(name=serving.SUPERVISOR, argv=(sys.executable, "-m", "tasks.serving.supervisor", *arguments))
