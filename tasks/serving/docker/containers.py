"""An environment's containers, for whoever keeps them alive; and the watch, which knows an engine that is away."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from configs.errors import SlipwayError
from delivery.clients.docker.container import Container, Owner
from delivery.clients.docker.engine import Engine
from delivery.clients.docker.errors import EngineAwayError
from delivery.clients.processes import local as processes
from tasks.serving.docker.specs import SupervisedContainer
from tasks.serving.keep_alive import Incident, KeepAlive, Started


@dataclass(frozen=True)
class ContainerStart:
    """One start of a container; without one there is none, or somebody else's."""

    id: str = ""
    started_at: str = ""
    container: Container | None = field(default=None, compare=False)

    def alive(self) -> bool:
        """Whether it runs, paused or not."""
        return self.container is not None and self.container.runs


@dataclass
class Containers:
    """The runtime. `folder` holds the lock of whoever starts or ends something here."""

    parts: Sequence[SupervisedContainer]
    engine: Engine
    owner: Owner
    network: tuple[str, IPv4Network]
    folder: Path
    _last: dict[str, ContainerStart] = field(default_factory=dict)

    def remembered(self, name: str) -> ContainerStart:
        """The container as it is, or as it was when the engine last answered: `down` ends whoever watches first."""
        try:
            found = self.engine.find(name)
        except EngineAwayError:
            return self._last.get(name, ContainerStart())
        ours = found is not None and found.belongs_to(self.owner)
        self._last[name] = (
            ContainerStart(found.id, found.started_at, found) if found is not None and ours else ContainerStart()
        )
        return self._last[name]

    def restart(self, name: str) -> ContainerStart:
        """Starts the one that is there, else makes it anew."""
        part = next(part for part in self.parts if part.name == name)
        if self.remembered(name).container is None:
            self.engine.make_network(*self.network, self.owner)
            self.engine.create(part.spec(), self.owner)
        started = self.engine.start(name)
        self._last[name] = ContainerStart(started.id, started.started_at, started)
        return self._last[name]

    def died(self, started: Started, how: str) -> SlipwayError:
        """With what the engine says of it, and its last lines."""
        assert isinstance(started, ContainerStart)  # noqa: S101 - the runtime gets back what it gave
        return died(self.engine, started.container, how)

    def exclusive(self) -> AbstractContextManager[bool]:
        """By the folder's lock."""
        return processes.exclusive(self.folder, wait=False)


def died(engine: Engine, container: Container | None, how: str) -> SlipwayError:
    """The error for a container that is gone or useless."""
    if container is None:
        return SlipwayError(f"a container {how}: it is not there any more", cure="slipway up makes it again")
    why = container.why_not_serving()
    lines = processes.telling_lines(engine.last_words(container.name))
    text = "\n    ".join(lines) if lines else "(it wrote nothing)"
    return SlipwayError(
        f"{container.name} {how}{': ' if why else ''}{why}; its last lines:\n    {text}",
        where=f"docker logs {container.name}",
        cure="the cause is usually among these lines; the log has all of them",
    )


class ContainerWatch:
    """Restarts what died. An engine that is away restarts nothing, and what it had started may serve on."""

    def __init__(self, containers: Containers):
        self._containers = containers
        self._keeper = KeepAlive(containers)
        self._is_away = False
        self._paused: set[str] = set()

    def check(self, now: float) -> tuple[Incident, ...]:
        """Asks the engine once about everything; a few seconds at most where it hangs."""
        try:
            self._containers.engine.ping()
        except EngineAwayError as error:
            if self._is_away:
                return ()
            self._is_away = True
            return (Incident("docker", "away", f"{error.what}; what it had started may serve on"),)
        back = [Incident("docker", "back", "the Docker engine answers again")] if self._is_away else []
        self._is_away = False
        return (*back, *self._keeper.check(now), *self._who_is_paused())

    def _who_is_paused(self) -> Iterator[Incident]:
        for part in self._containers.parts:
            container = self._containers.remembered(part.name).container
            is_paused = container is not None and container.status == "paused"
            if container is not None and is_paused and part.name not in self._paused:
                yield Incident(part.name, "away", f"{part.name} does not answer: {container.why_not_serving()}")
            if is_paused:
                self._paused.add(part.name)
            elif part.name in self._paused:
                self._paused.discard(part.name)
                yield Incident(part.name, "back", f"{part.name} is no longer paused")
