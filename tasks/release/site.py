"""One environment as the release tasks reach it: ledger, gateways, vLLM replicas, state folder, and who controls it."""

import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from configs.contract import Contract
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.judge import Judge
from configs.project import Project
from configs.routing import Variant
from delivery.build.bundle import Bundle
from delivery.build.servable import problems_with
from delivery.clients.bundles.images import unpack_adapter
from delivery.clients.bundles.safetensors_header import read_shapes
from delivery.clients.gateway import GatewayClient
from delivery.clients.ledger.ledger import LeaseHeldError, Ledger, LedgerError
from delivery.clients.ledger.reads import RouteRow
from delivery.clients.vllm import VllmClient
from delivery.progress import Progress, silent
from delivery.release.members import here
from delivery.release.state import Served
from tasks.mirror import mirror_of
from tasks.release.judge import Asker, RunBeside, in_thread, open_judge
from tasks.release.membership import GatewayClients
from tasks.release.published import require_signed
from tasks.serving.target import AdapterOrigin, Target
from tasks.serving.targets import target_of

LEASE_TTL_S = 30.0  # of the environment's lease in the ledger; a dead owner on this machine is noticed at once


@dataclass(frozen=True)
class Site:
    """What a controller works with. `vllm` gives a client for a base URL; `clock` is UNIX seconds."""

    environment: Environment
    ledger: Ledger
    gateways: Mapping[str, GatewayClient]
    vllm: Callable[[str], VllmClient]
    home: Path
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    executor: Callable[[], Executor] = lambda: ThreadPoolExecutor(max_workers=32, thread_name_prefix="replica")
    judge: Callable[[Judge], Asker] = open_judge
    background: RunBeside = in_thread
    owner: str = field(default_factory=lambda: own_name())

    @property
    def name(self) -> str:
        """The environment's name."""
        return self.environment.name

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Base URLs of the environment's vLLM replicas."""
        return self.target.replicas

    @property
    def target(self) -> Target:
        """Where its vLLM and gateways run."""
        return target_of(self.environment, self.home)

    def follow(self, gateways: tuple[str, ...]) -> None:
        """These are the gateways now, where they come and go."""
        if isinstance(self.gateways, GatewayClients):
            self.gateways.follow(gateways)

    def here(self, served: Served) -> Served:
        """At the replicas that are there now, where they come and go."""
        members = self.target.members() if served.follows else None
        return served if members is None else here(served, members.replicas)

    def require_route(self, route: str) -> RouteRow:
        """What is live on a route, and before it. Raises SlipwayError for a route that nothing was ever served on."""
        pointers = self.ledger.route(self.name, route)
        if pointers is None:
            raise SlipwayError(
                f"route {route} is not served in environment {self.name}", cure="start it first: slipway up"
            )
        return pointers

    def take_lease(self, patience_s: float = 0.0, on_progress: Progress = silent) -> None:
        """Takes the environment's lease. LeaseHeldError names another controller that lives.

        `patience_s` is for those who hold it for a moment: a supervisor that loads the live adapter again.
        """
        until = self.clock() + patience_s
        while True:
            holder = self.ledger.holder(self.name)
            if holder is not None and holder.owner != self.owner and is_dead(holder.owner):
                self.ledger.release_lease(self.name, holder.owner, self.clock(), by=self.owner)
            try:
                return self.ledger.acquire(self.name, self.owner, LEASE_TTL_S, self.clock())
            except LeaseHeldError as held:
                left_s = until - self.clock()
                if left_s <= 0:
                    raise
                on_progress(0, 0, f"waiting {left_s:.0f} s at most: {held}")
                self.sleep(0.2)

    def drop_lease(self) -> None:
        """Gives it back; with a ledger that cannot be written it ends by itself."""
        with suppress(LedgerError):
            self.ledger.release_lease(self.name, self.owner, self.clock())


def open_site(environment: Environment, home: Path) -> Site:
    """The environment's ledger, its gateways and its vLLM. SLIPWAY_VLLM_API_KEY is for a vLLM that wants one."""
    return Site(
        environment=environment,
        ledger=open_ledger(environment, home),
        gateways=open_gateways(environment, home),
        vllm=open_vllm(),
        home=home,
    )


def open_gateways(environment: Environment, home: Path) -> GatewayClients:
    """The environment's gateways by their admin URL."""
    target = target_of(environment, home)
    token = target.admin_token()
    return GatewayClients(lambda url: GatewayClient(url, token), target.gateways)


def open_vllm() -> Callable[[str], VllmClient]:
    """Clients of vLLM by base URL, each made once."""
    key = os.environ.get("SLIPWAY_VLLM_API_KEY") or None
    return _remembering(lambda url: VllmClient(url, key))


@contextmanager
def open_site_of(project: Project, home: Path) -> Iterator[Site]:
    """The project's environment, its connections closed afterwards."""
    site = open_site(project.environment, home)
    try:
        yield site
    finally:
        site.ledger.close()
        if isinstance(site.gateways, GatewayClients):
            site.gateways.close()


def open_ledger(environment: Environment, home: Path) -> Ledger:
    """The environment's ledger: by its URL, or SQLite below the state folder."""
    path = home.absolute() / "environments" / environment.name / "ledger.sqlite"
    return Ledger(environment.ledger_url or f"sqlite:///{path}")


def served_as(bundle: Bundle, site: Site, upstreams: tuple[str, ...] | None = None) -> Served:
    """A bundle as the environment's replicas (or these) serve it; its adapter is unpacked, verified, and in place."""
    path = None if bundle.adapter is None else _placed(bundle, site)
    if bundle.merged is not None:
        require_signed(site.environment, site.home, bundle.digest, site.clock())
    members = None if upstreams else site.target.members()
    if members is not None and not members.replicas:
        raise SlipwayError(
            f"no vLLM of environment {site.name} is ready", where=site.target.summary(), cure="see why: slipway status"
        )
    variant = Variant(
        model=bundle.served_name,
        upstreams=upstreams or (members.replicas if members is not None else site.upstreams),
        bundle=bundle.digest,
        system_prompt=bundle.system_prompt,
        system_place=bundle.system_place,
        temperature=bundle.temperature,
        max_tokens=bundle.max_tokens,
        parameters={"chat_template_kwargs": bundle.chat_template_kwargs} if bundle.chat_template_kwargs else {},
    )
    judged_by = bundle.routing.get("contract")
    contract = None if judged_by is None else Contract.model_validate(judged_by)
    return Served(
        bundle=bundle.digest,
        name=bundle.variant_name,
        variant=variant,
        adapter_path=path,
        follows=members is not None,
        contract=contract,
    )


def _placed(bundle: Bundle, site: Site) -> str:
    now = site.clock()
    mirror_of(site.environment, site.home).fetch_bundle(bundle.digest)
    require_signed(site.environment, site.home, bundle.digest, now)
    return site.target.place(unpack_adapter(bundle, site.home), AdapterOrigin(bundle.digest, now))


def why_not_servable(bundle: Bundle, site: Site) -> str:
    """What keeps vLLM from serving the bundle's adapter, by its own rules; empty when nothing does."""
    if bundle.adapter is None:
        return ""
    try:
        mirror_of(site.environment, site.home).fetch_bundle(bundle.digest)
        folder = unpack_adapter(bundle, site.home)
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        names = read_shapes(folder / "adapter_model.safetensors")
    except (OSError, ValueError, SlipwayError) as error:
        return f"its adapter cannot be read: {error}"
    problems = problems_with(settings, names, site.environment.vllm.max_lora_rank)
    return "vLLM cannot serve it: " + "; ".join(map(str, problems)) if problems else ""


def own_name() -> str:
    """Names this process for good: host, process, its start, and a random part."""
    started = int(psutil.Process().create_time())
    return f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}:{started}:{secrets.token_hex(3)}"


def is_dead(owner: str) -> bool:
    """Whether an owner was a process of this machine that has ended. One that cannot be looked up is not dead."""
    place, _, rest = owner.partition("@")[2].partition(":")
    parts = rest.split(":")
    if place != socket.gethostname() or len(parts) != 3 or not (parts[0].isdigit() and parts[1].isdigit()):
        return False
    try:
        return abs(psutil.Process(int(parts[0])).create_time() - int(parts[1])) > 2
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _remembering(make: Callable[[str], VllmClient]) -> Callable[[str], VllmClient]:
    made: dict[str, VllmClient] = {}

    def client(url: str) -> VllmClient:
        if url not in made:
            made[url] = make(url)
        return made[url]

    return client
