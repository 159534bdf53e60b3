"""Parts of an environment as processes of this machine, for whoever keeps them alive."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from configs.errors import SlipwayError
from delivery.clients.processes import local
from delivery.clients.processes.local import Process, ProcessCommand
from delivery.clients.processes.ports import Port, require_free
from tasks.serving.keep_alive import Started, Supervised

StartPhase = Callable[[str], tuple[int, int, str]]


@dataclass(frozen=True)
class SupervisedProcess(Supervised):
    """A process that should run. `attached`: it ends with the process that starts it."""

    command: ProcessCommand
    ports: tuple[Port, ...] = ()
    phase: StartPhase | None = None
    attached: bool = False


@dataclass(frozen=True)
class Processes:
    """Those whose pid files and logs are in `folder`."""

    parts: Sequence[SupervisedProcess]
    folder: Path

    def remembered(self, name: str) -> Process | None:
        """What its pid file says; None without one."""
        return local.remembered(name, self.folder)

    def restart(self, name: str) -> Process:
        """Raises SlipwayError for a port in use."""
        part = next(part for part in self.parts if part.name == name)
        local.stop(name, self.folder, forget=False)
        for port in part.ports:
            require_free(port)
        return local.launch(part.command, self.folder, attached=part.attached)

    def died(self, started: Started, how: str) -> SlipwayError:
        """With the last lines of its log."""
        assert isinstance(started, Process)  # noqa: S101 - the runtime gets back what it gave
        return local.died(started, how)

    def exclusive(self) -> AbstractContextManager[bool]:
        """By the folder's lock."""
        return local.exclusive(self.folder, wait=False)
