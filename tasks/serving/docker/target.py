"""Containers of this machine's engine as a target: up, down, how they are, and where adapters lie for them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep

from configs.api_keys import ApiKeys
from configs.canonical import short
from configs.docker import DockerTarget
from configs.environment import Environment
from configs.errors import Problem, SlipwayError, require_all
from configs.loading import load
from delivery.clients.at_once import at_once
from delivery.clients.bundles.adapters import describe
from delivery.clients.docker.container import Container, ContainerSpec
from delivery.clients.docker.engine import PING_S, Engine, home_labels, settings_of
from delivery.clients.docker.errors import EngineAwayError
from delivery.clients.processes import local as processes
from delivery.clients.processes.ports import Port, require_free
from delivery.progress import Progress, silent
from tasks.serving.asked import ask_everyone, require_ours, require_serves, why
from tasks.serving.docker.containers import Containers, ContainerWatch, died
from tasks.serving.docker.folders import gateway_folder, make_writable, require_readable, traffic_folder, user_inside
from tasks.serving.docker.specs import ADAPTERS, Plan, SupervisedContainer, gateway_urls, replica_urls
from tasks.serving.local import admin_token, environment_folder
from tasks.serving.target import AdapterOrigin, Members, ModelToServe, PartState, readiness
from tasks.serving.vllm_command import phase

NOTHING = ModelToServe("", Path())  # for what asks how containers are and makes none


@dataclass(frozen=True)
class DockerContainers:
    """So many vLLM and gateways as the environment says; `home` is the state folder, whose adapters they see."""

    environment: Environment
    config: DockerTarget
    home: Path
    engine: Engine = field(default_factory=Engine)

    @property
    def replicas(self) -> tuple[str, ...]:
        """On the environment's own network."""
        return replica_urls(self.config)

    @property
    def gateways(self) -> tuple[str, ...]:
        """Admin URLs on the environment's own network."""
        return gateway_urls(self.config)

    @property
    def folder(self) -> Path:
        """Gateways' settings and what they keep."""
        return environment_folder(self.environment, self.home)

    @property
    def _locked(self) -> Path:
        """Where the lock lies: processes of the same environment have one of their own."""
        return self.folder / "containers"

    @property
    def plan(self) -> Plan:
        """What each container is made of."""
        user = user_inside(self.config.user)
        engine, token = self.engine, self.admin_token()
        return Plan(self.environment, self.config, self.home, user, token, engine.image_id, engine.cores)

    def admin_token(self) -> str:
        """SLIPWAY_ADMIN_TOKEN, or one of our own."""
        return admin_token(self.environment, self.home)

    def place(self, adapter: Path, origin: AdapterOrigin | None = None) -> str:
        """It is there: the replicas see the same disk, and `prove` asks them."""
        wanted = describe(adapter)
        if adapter.name != short(wanted.digest) or adapter.absolute().parent != self.home.absolute() / "adapters":
            raise SlipwayError(f"{adapter} is not {short(wanted.digest)} below {self.home / 'adapters'}")
        require_readable(adapter, user_inside(self.config.user))
        return f"{ADAPTERS}/{adapter.name}"

    def path_on(self, replica: str, path: str) -> str:
        """Below the mount that each container has."""
        return f"{ADAPTERS}/{Path(path).name}"

    def members(self) -> None:
        """The same for as long as the settings are."""
        return

    def prove(self, replica: str, path: str) -> None:
        """The container itself, as its own user, reads the files whose digests are the adapter's."""
        if replica not in self.replicas:
            return  # somebody else's, named by hand for one release
        container = f"{self.plan.network}-vllm-{self.replicas.index(replica)}"
        wanted = describe(self.home / "adapters" / Path(path).name).files
        found = self.engine.digests(container, path)
        differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        if differing:
            raise SlipwayError(
                f"{container} does not see the adapter that it is to load",
                problems=[
                    Problem(f"{path}/{name}", f"{found.get(name)}, not {wanted.get(name)}") for name in differing
                ],
                cure="the engine must run on this machine; slipway down and up mount the folder anew",
            )

    def before_up(self) -> Iterator[Callable[[], object]]:
        """The engine and its images, the file of API keys, and names and ports that are free or ours."""
        yield self._require_engine
        if self.environment.gateway.api_keys is not None:
            yield partial(load, self.environment.gateway.api_keys, ApiKeys)

    @contextmanager
    def up(self, model: ModelToServe, on_progress: Progress = silent, *, attached: bool = False) -> Iterator[None]:
        """All containers run and answer; one that already does is used as it is. No other command starts any meanwhile.

        `attached` means nothing here: the engine keeps containers, whoever made them, until `down`. Raises SlipwayError
        for a name or port that is taken, for a container that runs with other settings, and with the last lines of one
        that dies. Then, when interrupted, and when the block fails, nothing that was started here is left.
        """
        plan = self.plan
        parts = plan.parts(model)
        with processes.exclusive(self._locked):
            self._make_folders(model, plan.user)
            specs = {part.name: part.spec() for part in parts}
            missing = [part for part in parts if not self._is_usable(part, specs[part.name])]
            self._remove_what_is_left(missing)
            require_all("the containers cannot start", [partial(require_free, p) for p in self._ports(missing)])
            started: list[str] = []
            try:
                self.engine.make_network(plan.network, self.config.subnet, plan.owner)
                for part in missing:
                    self.engine.create(specs[part.name], plan.owner)
                    started.append(part.name)
                    self.engine.start(part.name)
                for part in reversed(parts):  # a gateway is there in a second, vLLM is not
                    _wait(self.engine, part, on_progress)
                yield
            except BaseException:
                for name in reversed(started):
                    self.engine.remove(name, grace_s=2)
                raise

    def down(self) -> tuple[str, ...]:
        """Ends and removes the environment's containers and its network; the names of those that ran."""
        with processes.exclusive(self._locked):
            return _end(self.engine, self.plan.owner.labels())

    def state(self) -> tuple[PartState, ...]:
        """How each is: by its own word, and why not by the engine's."""
        plan = self.plan
        parts = plan.parts(NOTHING)
        try:
            found = {one.name: one for one in Engine(PING_S).all_of(plan.owner.labels())}
            away = ""
        except EngineAwayError as error:
            found, away = {}, error.what
        healths = at_once({part.name: part.health for part in parts})
        return tuple(_state(part, healths[part.name] == "ok", found.get(part.name), away) for part in parts)

    def watch(self, model: ModelToServe, *, attached: bool = False) -> ContainerWatch:
        """Restarts what died. A restarted vLLM has lost its adapters."""
        plan = self.plan
        network = (plan.network, self.config.subnet)
        return ContainerWatch(Containers(plan.parts(model), self.engine, plan.owner, network, self._locked))

    def evaluates_on(self, model_name: str) -> str | None:
        """The first replica that serves the model."""
        asked = ask_everyone(
            Members(self.replicas, ()), "", partial(require_serves, model_name=model_name), require_ours
        )
        for url, answer in asked.items():
            if not isinstance(answer, SlipwayError):
                return url
        raise SlipwayError(
            f"no container serves {model_name}: nothing can be evaluated",
            where="environment.yaml: target",
            problems=[Problem(url, why(answer)) for url, answer in asked.items()],
            cure="start them: slipway up",
        )

    def summary(self) -> str:
        """Where users ask, and who is ready."""
        gateway = self.environment.gateway
        urls = [f"http://{gateway.host}:{gateway.port + number}/v1" for number in range(self.config.gateways)]
        return f"{readiness(self.state())}\nusers ask {', '.join(urls)}"

    def _require_engine(self) -> None:
        """The images are there, and each name is free or ours."""
        images = [partial(self.engine.image_id, name) for name in (self.config.vllm_image, self.config.gateway_image)]
        self.engine.ping()
        names = [partial(self._require_ours, part.name) for part in self.plan.parts(NOTHING)]
        require_all("the containers cannot start", [*images, *names])

    def _require_ours(self, name: str) -> Container | None:
        found = self.engine.find(name)
        if found is not None and not found.belongs_to(self.plan.owner):
            raise SlipwayError(
                f"the name {name} is taken by a container that this environment did not make",
                where=f"container {found.id[:12]}, {found.status}",
                cure=f"remove it or rename it: docker rename {name} OTHER; or give the environment another name",
            )
        return found

    def _make_folders(self, model: ModelToServe, user: str) -> None:
        (self.home / "adapters").mkdir(parents=True, exist_ok=True)
        require_readable(model.folder, user)
        for number in range(self.config.gateways):
            make_writable(gateway_folder(self.folder, number), user)
        if (traffic := traffic_folder(self.environment.gateway)) is not None:
            make_writable(traffic, user)
        if self.environment.gateway.api_keys is not None:
            require_readable(self.environment.gateway.api_keys.absolute().parent, user)

    def _is_usable(self, part: SupervisedContainer, spec: ContainerSpec) -> bool:
        """Whether it runs as asked. Raises SlipwayError when it runs with other settings, or the name is taken."""
        running = self._require_ours(part.name)
        if running is None or not running.runs:
            return False
        was, wanted = settings_of(running), dict(spec.settings)
        differing = sorted(key for key in {*was, *wanted} if was.get(key) != wanted.get(key))
        if differing:
            pairs = [f"{key}: runs with {was.get(key)!r}, asked for {wanted.get(key)!r}" for key in differing]
            raise SlipwayError(
                f"{part.name} already runs with other settings: {'; '.join(pairs)}", cure="end it with: slipway down"
            )
        return running.status == "running" and part.health() != "dead"

    def _remove_what_is_left(self, missing: list[SupervisedContainer]) -> None:
        for part in missing:
            self.engine.remove(part.name, grace_s=2)

    def _ports(self, missing: list[SupervisedContainer]) -> list[Port]:
        gateway = self.environment.gateway
        numbers = [int(part.name.rpartition("-")[2]) for part in missing if part.kind == "gateway"]
        return [Port(gateway.host, gateway.port + number, "environment.yaml: gateway.port") for number in numbers]


def end_all(home: Path) -> tuple[str, ...]:
    """Ends every container and network of a state folder that has had any; the names of what ran."""
    if not any(home.glob("environments/*/containers")):
        return ()
    return _end(Engine(), home_labels(str(home.absolute())))


def _end(engine: Engine, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Gateways first, so that nobody is sent to a vLLM that is gone; their networks last."""
    found = engine.all_of(labels)
    gateways = [one.name for one in found if "-gateway-" in one.name]
    for names in (gateways, [one.name for one in found if one.name not in gateways]):
        ended = at_once({name: partial(engine.remove, name, grace_s=20) for name in names})
        for problem in ended.values():
            if isinstance(problem, SlipwayError):
                raise problem
    engine.remove_networks(labels)
    return tuple(container.name for container in found if container.runs)


def _wait(engine: Engine, part: SupervisedContainer, on_progress: Progress) -> None:
    began = monotonic()
    while part.health() != "ok":
        waited = monotonic() - began
        container = engine.find(part.name)
        if container is None or not container.runs:
            raise died(engine, container, "died at start")
        if waited > part.start_timeout_s:
            raise died(engine, container, f"was not ready within {part.start_timeout_s:g} s")
        done, total, text = phase(engine.last_words(part.name)) if part.kind == "vllm" else (0, 0, "starting")
        on_progress(done, total, f"{part.name}: {text} ({waited:.0f} s)")
        sleep(0.5)


def _state(part: SupervisedContainer, healthy: bool, container: Container | None, away: str) -> PartState:
    running = healthy if away else container is not None and container.runs
    healthy = healthy and running
    reason = ""
    if not healthy:
        reason = away or "it has no container: slipway up"
        if container is not None:
            reason = container.why_not_serving() or f"it runs, but does not answer: docker logs {part.name}"
    return PartState(part.kind, part.url, running, healthy, pid=None, log="", reason=reason)
