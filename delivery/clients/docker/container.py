"""What a container is made of, and how one is: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ENVIRONMENT, HOME, SETTINGS = "slipway.environment", "slipway.home", "slipway.settings"
"""Labels: whose a container is, and in words what it was started with."""


@dataclass(frozen=True)
class Mount:
    """A folder of the engine's machine as the container sees it."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class ContainerSpec:
    """What to run. `image` is an ID. Secrets are in `environment`, never in `settings`, which become a label.

    `address`: on the environment's own network. `published`: by the container's port, the host and port outside.
    """

    name: str
    image: str
    command: tuple[str, ...]
    network: str
    address: str
    memory_bytes: int
    user: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    cpus: float | None = None
    gpus: tuple[str, ...] = ()
    shared_memory_bytes: int | None = None
    grace_s: int = 20


@dataclass(frozen=True)
class Owner:
    """Whose containers and networks these are: an environment of one state folder."""

    environment: str
    home: str

    def labels(self) -> dict[str, str]:
        """What each of them carries."""
        return {ENVIRONMENT: self.environment, HOME: self.home}


@dataclass(frozen=True)
class Container:
    """A container as the engine last saw it. `status`: created, running, paused, restarting, exited or dead."""

    id: str
    name: str
    status: str
    started_at: str
    exit_code: int
    out_of_memory: bool
    error: str  # of the engine's, when it could not start it
    labels: Mapping[str, str]
    memory_bytes: int

    @property
    def runs(self) -> bool:
        """A paused one does: whoever paused it can go on."""
        return self.status in ("running", "paused")

    def belongs_to(self, owner: Owner) -> bool:
        """Whether Slipway made it for this environment."""
        return owner.labels().items() <= dict(self.labels).items()

    def why_not_serving(self) -> str:
        """How it is, where that alone explains that it does not answer; else empty."""
        if self.status == "paused":
            return f"its container is paused: docker unpause {self.name}"
        if self.runs:
            return ""
        if self.out_of_memory:  # vLLM's container ends with 0 then: its engine alone was killed
            return f"it ran out of memory at {self.memory_bytes / 2**30:.1f} GiB (exit status {self.exit_code})"
        if self.error:
            return f"its container could not start: {self.error}"
        return f"its container is {self.status} (exit status {self.exit_code})"
