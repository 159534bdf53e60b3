"""Where an environment's vLLM and gateways run, as everything else sees it.

Whoever starts, asks, loads or evaluates goes through this protocol; what kind of place it is, its own file knows.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from delivery.progress import Progress, silent
from tasks.serving.keep_alive import Incident


@dataclass(frozen=True)
class PartState:
    """One vLLM or gateway: `running` by the process table or because it answers, `healthy` by its own word."""

    name: str
    url: str
    running: bool
    healthy: bool
    pid: int | None  # None: no process of ours
    log: str  # empty: it is kept elsewhere
    reason: str = ""  # why it is not healthy, where that is known


class Members(NamedTuple):
    """Who belongs to a place: base URLs of its vLLM replicas, and admin URLs of its gateways."""

    replicas: tuple[str, ...]
    gateways: tuple[str, ...]


class AdapterOrigin(NamedTuple):
    """The bundle that an adapter is of, and the time, in UNIX seconds, as of which its signatures have to count."""

    bundle: str  # digest
    as_of: float


class ModelToServe(NamedTuple):
    """The base model that every vLLM of a place serves: its name, its folder, and the longest context in tokens."""

    name: str
    folder: Path
    context_tokens: int = 1024


class Watcher(Protocol):
    """Looks after what was started or registered."""

    def check(self, now: float) -> tuple[Incident, ...]:
        """Looks once and returns soon. `now`: seconds that only grow. After a `back` the live bundle is served anew."""


class Target(Protocol):
    """Where vLLM and gateways run. Everything raises SlipwayError for what people have to see to."""

    @property
    def replicas(self) -> tuple[str, ...]:
        """Base URLs of the vLLM replicas."""

    @property
    def gateways(self) -> tuple[str, ...]:
        """Admin URLs of the gateways."""

    def admin_token(self) -> str:
        """What opens the gateways' admin API."""

    def place(self, adapter: Path, origin: AdapterOrigin | None = None) -> str:
        """Has the replicas see an adapter's folder, which is named by its digest; its path on their machines.

        The bytes there are those of `adapter`, or it raises. `origin` is for replicas that fetch and verify a whole
        bundle by themselves.
        """

    def path_on(self, replica: str, path: str) -> str:
        """A path that `place` gave, as this replica's vLLM has to be told it."""

    def members(self) -> Members | None:
        """Who is there now, asked anew. None: they are the same as long as this process lives."""

    def prove(self, replica: str, path: str) -> None:
        """The bytes that this replica sees under a path that `place` gave are the adapter's, or it raises.

        Asked of each replica whenever it is to load the adapter.
        """

    def before_up(self) -> Iterator[Callable[[], object]]:
        """What `up` needs and can be known before."""

    def up(
        self, model: ModelToServe, on_progress: Progress = silent, *, attached: bool = False
    ) -> AbstractContextManager[None]:
        """Until the block ends there is a vLLM that serves the model, and a gateway; both stay when it ends well."""

    def down(self) -> tuple[str, ...]:
        """Ends what `up` started; the names of what ran."""

    def state(self) -> tuple[PartState, ...]:
        """How each vLLM and each gateway is."""

    def watch(self, model: ModelToServe, *, attached: bool = False) -> Watcher:
        """Who looks after what `up` started or found."""

    def evaluates_on(self, model_name: str) -> str | None:
        """The vLLM that a build evaluates on. None: one on this machine, started where none runs."""

    def summary(self) -> str:
        """For people: where it is reached, and who of them is not ready."""


def readiness(parts: Iterable[PartState]) -> str:
    """READY of TOTAL for each kind, then a line for each that is not ready, with the reason."""
    found, lines = list(parts), []
    for name in dict.fromkeys(part.name for part in found):
        ready = [part.healthy for part in found if part.name == name]
        lines.append(f"{name} {sum(ready)} of {len(ready)} ready")
    missing = [f"  {part.name} {part.url} is not ready: {part.reason}" for part in found if not part.healthy]
    return "\n".join([", ".join(lines), *missing])
