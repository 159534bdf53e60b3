"""Restarts what died in the middle of its work: a few times, ever later, never in silence.

Nothing here waits: `check` is called every few seconds by whoever also has a release to look after, and a vLLM that
takes half a minute to start must not hold up a rollback.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from configs.errors import SlipwayError

ProcessHealth = Literal["ok", "dead", "silent"]
"""`dead`: it said itself that it will not recover. `silent`: no good answer in time, which load or a start explain."""


@dataclass(frozen=True)
class Supervised:
    """Something that should run, and how to ask it."""

    name: str
    health: Callable[[], ProcessHealth]
    start_timeout_s: float


class Started(Protocol):
    """One start of a part; another start of it is not equal to it."""

    def alive(self) -> bool:
        """Whether it runs."""


class Runtime(Protocol):
    """Where parts run: as processes of this machine, or as containers of an engine."""

    @property
    def parts(self) -> Sequence[Supervised]:
        """What should run."""

    def remembered(self, name: str) -> Started | None:
        """The last start, whether or not it runs. None: it was never started, or was ended on purpose."""

    def restart(self, name: str) -> Started:
        """Ends what is left of it and starts it anew, without waiting until it serves. Raises SlipwayError, OSError."""

    def died(self, started: Started, how: str) -> SlipwayError:
        """What to tell of one that is gone or useless, with the last lines that it wrote."""

    def exclusive(self) -> AbstractContextManager[bool]:
        """Nobody else starts or ends parts meanwhile; False where somebody does."""


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
    """What is known about one part; times are the caller's."""

    started: Started | None = None  # None: not looked at yet
    tries: int = 0
    next_try_at: float | None = None  # set: it is down
    starting_since: float | None = None
    silent_since: float | None = None
    back_at: float | None = None
    gave_up: bool = False


class KeepAlive:
    """Watches a runtime's parts. One that was ended on purpose stays so."""

    def __init__(self, runtime: Runtime, policy: RestartPolicy | None = None):
        self.runtime = runtime
        self.policy = policy or RestartPolicy()
        self._watches = {part.name: _Watch() for part in runtime.parts}

    def check(self, now: float) -> tuple[Incident, ...]:
        """Looks once, restarts what is due, returns at once. `now` is any clock that only goes forward, in seconds."""
        return tuple(event for part in self.runtime.parts for event in self._check(part, now))

    def _check(self, part: Supervised, now: float) -> list[Incident]:
        started = self.runtime.remembered(part.name)
        if started is None:
            return []
        watch = self._watch_of(part.name, started, now)
        if watch.gave_up:
            return self._recovered(part, started)
        if watch.next_try_at is not None:
            return self._retry(part, watch, now) if now >= watch.next_try_at else []
        how = self._trouble(part, started, watch, now)
        if how is None:
            return self._fine(part, watch, now)
        if how == "":
            return []
        return self._down(part, watch, now, str(self.runtime.died(started, how)))

    def _watch_of(self, name: str, started: Started, now: float) -> _Watch:
        """What is known about this very start: nothing about one that somebody else made meanwhile."""
        watch = self._watches[name]
        if watch.started is None:
            watch.started = started
        elif watch.started != started:
            watch = self._watches[name] = _Watch(started, starting_since=now)
        return watch

    def _recovered(self, part: Supervised, started: Started) -> list[Incident]:
        """One that was left alone may have needed more time only: it is looked after again once it serves."""
        if not started.alive() or part.health() != "ok":
            return []
        self._watches[part.name] = _Watch(started)
        return [Incident(part.name, "back", f"{part.name} serves again by itself")]

    def _trouble(self, part: Supervised, started: Started, watch: _Watch, now: float) -> str | None:
        """What is wrong: None nothing, "" nothing that cannot pass, else how it died."""
        if not started.alive():
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
            return [Incident(part.name, "back", f"{part.name} serves again after {took_s:.0f} s")]
        if watch.back_at is not None and now - watch.back_at > self.policy.stable_s:
            watch.tries, watch.back_at = 0, None
        return []

    def _down(self, part: Supervised, watch: _Watch, now: float, text: str) -> list[Incident]:
        name = part.name
        watch.starting_since = watch.silent_since = watch.back_at = None
        events = [Incident(name, "died", text)]
        if watch.tries >= self.policy.tries:
            watch.gave_up = True
            events.append(Incident(name, "gave_up", f"{name} was restarted {watch.tries} times and is left alone now"))
        else:
            watch.next_try_at = now + self.policy.delay_s(watch.tries)
        return events

    def _retry(self, part: Supervised, watch: _Watch, now: float) -> list[Incident]:
        with self.runtime.exclusive() as mine:
            if not mine or self.runtime.remembered(part.name) != watch.started:
                return []  # another command starts or ends parts here, or just did: look again later
            watch.tries += 1
            watch.next_try_at = None
            try:
                watch.started = self.runtime.restart(part.name)
            except (SlipwayError, OSError) as error:
                return self._down(part, watch, now, str(error))
        watch.starting_since = now
        text = f"{part.name} is started again, try {watch.tries} of {self.policy.tries}"
        return [Incident(part.name, "restarting", text)]
