"""Several unlike places behind one route: each member starts, places and proves in its own way, all as one target.

An adapter's path is true on one member's machines only. What goes on record is where it lies in the state folder; the
member whose replica is to load it says what that replica has to be told.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.canonical import short
from configs.environment import Environment
from configs.errors import Problem, SlipwayError, require_all
from delivery.clients.at_once import at_once
from delivery.clients.bundles.adapters import describe, store_at
from delivery.progress import Progress, silent
from tasks.serving.external import External
from tasks.serving.keep_alive import Incident
from tasks.serving.kubernetes.known import known_members
from tasks.serving.local import admin_token, environment_folder
from tasks.serving.target import AdapterOrigin, Members, ModelToServe, PartState, Target, Watcher

NOBODY = Members((), ())


@dataclass(frozen=True)
class Combined:
    """`parts` are the members by name; `changing` names the one whose replicas come and go, if there is one.

    `home` is the state folder.
    """

    environment: Environment
    parts: Mapping[str, Target]
    changing: str | None
    home: Path

    @property
    def replicas(self) -> tuple[str, ...]:
        """Of all members, in their order."""
        return self._there().replicas

    @property
    def gateways(self) -> tuple[str, ...]:
        """Of all members: each of them gets the same table."""
        return self._there().gateways

    def admin_token(self) -> str:
        """One for all: SLIPWAY_ADMIN_TOKEN where others run gateways, else that or one of our own."""
        for member in self.parts.values():
            if isinstance(member, External) and member.gateways:
                return member.admin_token()
        return admin_token(self.environment, self.home)

    def place(self, adapter: Path, origin: AdapterOrigin | None = None) -> str:
        """With every member; where it lies in the state folder. Raises what kept which members from it."""
        wanted, here = describe(adapter), self._here(adapter.name)
        if adapter.name != short(wanted.digest):
            raise SlipwayError(
                f"the folder's name is not the digest of what it holds, {short(wanted.digest)}", where=str(adapter)
            )
        if here != adapter.absolute():
            store_at(adapter, wanted, here)
        places = {name: partial(member.place, here, origin) for name, member in self.parts.items()}
        _require_each("the adapter cannot be placed with every member", places)
        return str(here)

    def path_on(self, replica: str, path: str) -> str:
        """As the member whose replica it is says it."""
        member = self._member_of(replica)
        return path if member is None else member.path_on(replica, str(self._here(path)))

    def members(self) -> Members | None:
        """All of them, where there is one whose replicas come and go."""
        return None if self.changing is None else self._there()

    def prove(self, replica: str, path: str) -> None:
        """As the member whose replica it is has it prove."""
        member = self._member_of(replica)
        if member is not None:
            member.prove(replica, self.path_on(replica, path))

    def before_up(self) -> Iterator[Callable[[], object]]:
        """What each member needs, and that none has what another one has."""
        yield self._require_told_apart
        for name, member in self.parts.items():
            yield from (partial(_of, name, check) for check in member.before_up())

    @contextmanager
    def up(self, model: ModelToServe, on_progress: Progress = silent, *, attached: bool = False) -> Iterator[None]:
        """Each member is up. Of those that others run one may be away: it is told of, and looked after once it is back.

        When a member that Slipway starts does not start, nothing that this call started is left.
        """
        away: dict[str, SlipwayError] = {}
        with ExitStack() as stack:
            for name, member in self.parts.items():
                try:
                    stack.enter_context(member.up(model, partial(_tell, on_progress, name), attached=attached))
                except SlipwayError as error:
                    if not isinstance(member, External):
                        raise _named(name, error) from error
                    away[name] = error
            if not any(member.gateways for name, member in self.parts.items() if name not in away):
                raise next(_named(name, why) for name, why in away.items() if self.parts[name].gateways)
            for name, why in away.items():
                on_progress(0, 0, f"{name}: {why}")
            yield

    def down(self) -> tuple[str, ...]:
        """Ends what each member started, also where another one cannot."""
        done = at_once({name: member.down for name, member in self.parts.items()})
        wrong = {name: answer for name, answer in done.items() if isinstance(answer, SlipwayError)}
        if wrong:
            raise next(_named(name, error) for name, error in wrong.items())
        return tuple(name for ended in done.values() if not isinstance(ended, SlipwayError) for name in ended)

    def state(self) -> tuple[PartState, ...]:
        """Of all members; one that cannot be asked is one part that is not ready."""
        asked = at_once({name: member.state for name, member in self.parts.items()})
        found: list[PartState] = []
        for name, answer in asked.items():
            if isinstance(answer, SlipwayError):
                answer = (PartState(name, name, False, False, None, "", answer.what),)
            found += answer
        return tuple(found)

    def watch(self, model: ModelToServe, *, attached: bool = False) -> "CombinedWatch":
        """Each member's own."""
        return CombinedWatch(
            {name: partial(member.watch, model, attached=attached) for name, member in self.parts.items()}
        )

    def evaluates_on(self, model_name: str) -> str | None:
        """As the first member says that can say it."""
        problems: list[Problem] = []
        for name, member in self.parts.items():
            try:
                return member.evaluates_on(model_name)
            except SlipwayError as error:
                problems += _named(name, error).as_problems()
        raise SlipwayError(f"no member serves {model_name}: nothing can be evaluated", problems=problems)

    def summary(self) -> str:
        """Each member's own."""
        return "\n".join(f"{name}: {member.summary()}" for name, member in self.parts.items())

    def _there(self) -> Members:
        """Who is there. Of a member that cannot be asked those who were known last, and the others go on."""
        found = [self._of_one(name, member) for name, member in self.parts.items()]
        replicas = tuple(url for one in found for url in one.replicas)
        return Members(replicas, tuple(url for one in found for url in one.gateways))

    def _of_one(self, name: str, member: Target) -> Members:
        if name != self.changing:
            return Members(member.replicas, member.gateways)
        try:
            return member.members() or NOBODY
        except SlipwayError:  # `state` tells of it
            return known_members(environment_folder(self.environment, self.home)) or NOBODY

    def _member_of(self, replica: str) -> Target | None:
        """The one that has it; whoever nobody names has come or gone where replicas do. None: one named by hand."""
        for name, member in self.parts.items():
            if name != self.changing and replica in member.replicas:
                return member
        return self.parts[self.changing] if self.changing is not None else None

    def _here(self, path: str) -> Path:
        return self.home.absolute() / "adapters" / Path(path).name

    def _require_told_apart(self) -> None:
        """Two members with one replica would each load, prove and end it in its own way."""
        owners: dict[str, list[str]] = {}
        for name, member in self.parts.items():
            if name != self.changing:
                for url in (*member.replicas, *member.gateways):
                    owners.setdefault(url, []).append(name)
        twice = {url: names for url, names in owners.items() if len(names) > 1}
        if twice:
            raise SlipwayError(
                "two members have the same replica or gateway",
                where="environment.yaml: target.members",
                problems=[Problem(url, f"it belongs to {' and to '.join(names)}") for url, names in twice.items()],
                cure="name it in one member; `vllm.port` and `gateway.admin_port` say where a local member listens",
            )


class CombinedWatch:
    """Looks after all members, at the same time: one that answers late delays nobody else's restart twice."""

    def __init__(self, begin: Mapping[str, Callable[[], Watcher]]):
        self._watchers = {name: start() for name, start in begin.items()}
        self._failed: dict[str, str] = {}  # by member what was said of it

    def check(self, now: float) -> tuple[Incident, ...]:
        """Looks once at each. The text of each incident begins with the member's name.

        A member that cannot be looked at is told of once, and the others are looked after all the same.
        """
        found = at_once({name: partial(watcher.check, now) for name, watcher in self._watchers.items()})
        events: list[Incident] = []
        for name, seen in found.items():
            if isinstance(seen, SlipwayError):
                if self._failed.get(name) != seen.what:
                    events.append(Incident(name, "away", f"{name}: {seen.what}"))
                self._failed[name] = seen.what
                continue
            if self._failed.pop(name, None) is not None:
                events.append(Incident(name, "back", f"{name}: it can be looked at again"))
            events += [Incident(event.name, event.kind, f"{name}: {event.text}") for event in seen]
        return tuple(events)


def _of(name: str, call: Callable[[], object]) -> object:
    try:
        return call()
    except SlipwayError as error:
        raise _named(name, error) from error


def _require_each(what: str, calls: Mapping[str, Callable[[], object]]) -> None:
    require_all(what, [partial(_of, name, call) for name, call in calls.items()])


def _named(name: str, error: SlipwayError) -> SlipwayError:
    """The same error, which says whose it is."""
    return SlipwayError(f"{name}: {error.what}", where=error.where, cure=error.cure, problems=error.problems)


def _tell(on_progress: Progress, name: str, done: int, total: int, text: str) -> None:
    on_progress(done, total, f"{name}: {text}")
