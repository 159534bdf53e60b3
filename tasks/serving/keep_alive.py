"""Restarts local processes that died in the middle of their work: a few times, ever later, never in silence.

Nothing here waits: `check` is called every few seconds by whoever also has a release to look after, and a vLLM that
takes half a minute to start must not hold up a rollback.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.errors import SlipwayError
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.clients.processes.ports import Port, require_free

ProcessHealth = Literal["ok", "dead", "silent"]
"""`dead`: it said itself that it will not recover. `silent`: no good answer in time, which load or a start explain."""

StartPhase = Callable[[str], tuple[int, int, str]]


@dataclass(frozen=True)
class Supervised:
    """A process that should run, and how to ask it."""

    command: ProcessCommand
    health: Callable[[], ProcessHealth]
    start_timeout_s: float
    ports: tuple[Port, ...] = ()
    phase: StartPhase | None = None
    attached: bool = False


@dataclass(frozen=True)
class RestartPolicy:
    """At most `tries` restarts, `first_delay_s` and then `factor` times later each; forgotten after `stable_s`."""

    tries: int = 3
    first_delay_s: float = 1.0
    factor: float = 5.0
    silent_s: float = 60.0
    stable_s: float = 300.0

    def delay_s(self, tries_made: int) -> float:
        """How long to wait before the next try."""
        return self.first_delay_s * self.factor**tries_made


@dataclass(frozen=True)
class Incident:
    """Something to tell: `died` and `gave_up` are alerts, with the process's last lines in `text`."""

    name: str
    kind: Literal["died", "restarting", "back", "gave_up", "away"]  # away: of one that others run
    text: str


@dataclass
class _Watch:
    """What is known about one process; times are the caller's."""

    process: processes.Process | None = None  # None: not looked at yet
    tries: int = 0
    next_try_at: float | None = None  # set: it is down
    starting_since: float | None = None
    silent_since: float | None = None
    back_at: float | None = None
    gave_up: bool = False


class KeepAlive:
    """Watches the processes of one folder. A process that was stopped on purpose (no pid file) stays stopped."""

    def __init__(self, parts: Sequence[Supervised], folder: Path, policy: RestartPolicy | None = None):
        self.parts = tuple(parts)
        self.folder = folder
        self.policy = policy or RestartPolicy()
        self._watches = {part.command.name: _Watch() for part in parts}

    def check(self, now: float) -> tuple[Incident, ...]:
        """Looks once, restarts what is due, returns at once. `now` is any clock that only goes forward, in seconds."""
        return tuple(event for part in self.parts for event in self._check(part, now))

    def _check(self, part: Supervised, now: float) -> list[Incident]:
        process = processes.remembered(part.command.name, self.folder)
        if process is None:
            return []
        watch = self._watch_of(process, now)
        if watch.gave_up:
            return self._recovered(part, process)
        if watch.next_try_at is not None:
            return self._retry(part, watch, now) if now >= watch.next_try_at else []
        how = self._trouble(part, process, watch, now)
        if how is None:
            return self._fine(part, watch, now)
        if how == "":
            return []
        return self._down(part, watch, now, str(processes.died(process, how)))

    def _watch_of(self, process: processes.Process, now: float) -> _Watch:
        """What is known about this very process: nothing about one that somebody else started meanwhile."""
        watch = self._watches[process.name]
        if watch.process is None:
            watch.process = process
        elif watch.process != process:
            watch = self._watches[process.name] = _Watch(process, starting_since=now)
        return watch

    def _recovered(self, part: Supervised, process: processes.Process) -> list[Incident]:
        """One that was left alone may have needed more time only: it is looked after again once it serves."""
        if not process.alive() or part.health() != "ok":
            return []
        self._watches[process.name] = _Watch(process)
        return [Incident(process.name, "back", f"{process.name} serves again by itself")]

    def _trouble(self, part: Supervised, process: processes.Process, watch: _Watch, now: float) -> str | None:
        """What is wrong: None nothing, "" nothing that cannot pass, else how it died."""
        if not process.alive():
            return "died"
        health = part.health()
        if health == "ok":
            return None
        if health == "dead":
            return "says that its engine died"
        if watch.starting_since is not None:
            late = now - watch.starting_since > part.start_timeout_s
            return f"was not ready within {part.start_timeout_s:g} s" if late else ""
        if watch.silent_since is None:
            watch.silent_since = now
        silent_s = now - watch.silent_since
        return f"has not answered for {silent_s:.0f} s" if silent_s > self.policy.silent_s else ""

    def _fine(self, part: Supervised, watch: _Watch, now: float) -> list[Incident]:
        watch.silent_since = None
        if watch.starting_since is not None:
            took_s = now - watch.starting_since
            watch.starting_since, watch.back_at = None, now
            return [Incident(part.command.name, "back", f"{part.command.name} serves again after {took_s:.0f} s")]
        if watch.back_at is not None and now - watch.back_at > self.policy.stable_s:
            watch.tries, watch.back_at = 0, None
        return []

    def _down(self, part: Supervised, watch: _Watch, now: float, text: str) -> list[Incident]:
        name = part.command.name
        watch.starting_since = watch.silent_since = watch.back_at = None
        events = [Incident(name, "died", text)]
        if watch.tries >= self.policy.tries:
            watch.gave_up = True
            events.append(Incident(name, "gave_up", f"{name} was restarted {watch.tries} times and is left alone now"))
        else:
            watch.next_try_at = now + self.policy.delay_s(watch.tries)
        return events

    def _retry(self, part: Supervised, watch: _Watch, now: float) -> list[Incident]:
        name = part.command.name
        with processes.exclusive(self.folder, wait=False) as mine:
            if not mine or processes.remembered(name, self.folder) != watch.process:
                return []  # another command starts or ends processes here, or just did: look again later
            watch.tries += 1
            watch.next_try_at = None
            try:
                processes.stop(name, self.folder, forget=False)
                for port in part.ports:
                    require_free(port)
                watch.process = processes.launch(part.command, self.folder, attached=part.attached)
            except (SlipwayError, OSError) as error:
                return self._down(part, watch, now, str(error))
        watch.starting_since = now
        return [Incident(name, "restarting", f"{name} is started again, try {watch.tries} of {self.policy.tries}")]
