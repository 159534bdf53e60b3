"""Random histories of releases and repeated rollbacks, through the very rules that decide: no process, no clock.

A caller looks at the route, means the newest release, and rolls it back - named or not, with the ledger or without it,
killed in the middle or not - while others do the same, supervisors finish what was left, and new releases come.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from configs.routing import RoutingTable, Variant
from delivery.release import rollback
from delivery.release.decide import decide, new_state
from delivery.release.routes import alone, table_with, wanted_route
from delivery.release.state import (
    Command,
    Commit,
    GatewaySeen,
    Observation,
    Quarantine,
    ReleaseState,
    ReplicaSeen,
    Served,
    SetTable,
)
from delivery.release.take_back import Meant, PastRelease, meant
from delivery.release.way_back import WayBack, step_back
from delivery.traffic.records import RecordPage

Rule = Callable[[Sequence[PastRelease], str, str], Meant]
VLLM = "http://vllm"
ROUTE = "tutor"
STEPS = 12  # events of one history
PLAN = RolloutPlan(
    drain_s=0.0,
    stages=(Stage(kind="canary", share_bp=1000), Stage(kind="full", share_bp=9000)),
    checks=(Check(metric="error_rate", max=0.05),),
)


@dataclass
class History:
    """One route, its gateway, its ledger, and who was meant by whom."""

    rng: random.Random
    rule: Rule = meant
    now: float = 1000.0
    states: list[ReleaseState] = field(default_factory=list)  # newest last
    commands: dict[str, Command] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # releases taken back without the ledger
    has_ledger: bool = True
    calls: int = 0
    repeated: int = 0
    allowed: set[str] = field(default_factory=set)  # whom somebody meant, or Slipway itself
    quarantined: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.base = self.live = _served("base")
        self.way_back = WayBack(release_id="", live=self.base, to=self.base, base=self.base)
        self.table = RoutingTable(revision=1, routes={ROUTE: alone(self.base, "start", "start/base")})

    # -- what can happen --------------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """The releases that were taken back although nobody meant them: none, if the rules hold."""
        for _ in range(STEPS):
            self.now += 60
            event = self.rng.choices(
                (self.release, self.callers, self.supervise, self.ledger_comes_or_goes), (3, 5, 2, 1)
            )[0]
            event()
        self.has_ledger = True
        self.supervise()
        return self.wrongly_taken_back()

    def wrongly_taken_back(self) -> list[str]:
        """By now, in the ledger or on the gateway."""
        gone = {state.release_id for state in self.states if state.phase in ("rolling_back", "rolled_back")}
        return sorted((gone | set(self.notes) | self.quarantined) - self.allowed)

    def release(self) -> None:
        """A new bundle, or one of before again; it goes live, is taken back by itself, or is still in its canary."""
        if not self.has_ledger:
            return
        self.supervise()
        newest = self.states[-1] if self.states else None
        if newest is not None and newest.phase == "stage":  # superseded
            self.allowed.add(newest.release_id)
            self._ask(newest, Command(id=1, kind="cancel", by="ci", reason="superseded"))
            self.supervise()
        number = len(self.states) + 1
        again = [s.candidate for s in self.states if s.phase == "rolled_back" and s.candidate.name != self.live.name]
        fresh = self.rng.choice(again) if again and self.rng.random() < 0.3 else _served(f"v{number:03}")
        state = new_state(f"r{number}", "local", ROUTE, fresh, self.live, self.now)
        self.states.append(state.model_copy(update={"phase": "stage"}))
        self._serve(self.states[-1])
        ends = self.rng.random()
        if ends < 0.6:
            self._save(self.states[-1].model_copy(update={"phase": "live", "committed": True}))
            self._commit(fresh)
            self._serve(self.states[-1])
        elif ends < 0.8:
            self.allowed.add(state.release_id)
            decision = rollback.begin(PLAN, self.states[-1], self._seen(), self.now, reason="a check failed")
            self._save(decision.state)
            self._finish(decision.state)

    def callers(self) -> None:
        """One to three people look at the route at the same time, and act one after the other, maybe repeatedly."""
        if not self.states:
            return
        looked = self.states[-1].release_id
        was_over = self.states[-1].phase == "rolled_back"
        if not was_over:
            self.allowed.add(looked)
        name = self.rng.choice(("", "", looked, self.states[-1].candidate.bundle))
        if self.rng.random() < 0.1:  # a second step back, asked for by name
            past = self._pasts()
            found = self.rule(past, self.live.bundle, self.live.bundle)
            if self.live.name != "base" and found.standing == "take_back":
                name = found.release_id
                self.allowed.add(name)
        for number in range(self.rng.randint(1, 4)):
            self.repeated += number > 0
            self.call(name)
            if self.rng.random() < 0.3:
                self.supervise()

    def call(self, name: str) -> None:
        """`slipway rollback [NAME]`, which may be killed after each of its effects."""
        self.calls += 1
        killed_after = self.rng.choice((1, 2, 9, 9))
        if not self.has_ledger:
            return self._call_without_ledger(name)
        found = self.rule(self._pasts(), self.live.bundle, name)
        if found.standing != "take_back":
            return None
        state = self._state(found.release_id)
        if state.phase != "rolling_back":
            self._ask(state, Command(id=1, kind="rollback", by="ann", reason="complaints"))
        if killed_after == 1:
            return None
        self._put(
            table_with(ROUTE, alone(state.stable, state.release_id, f"{state.release_id}/rolled-back"), *self._at())
        )
        if killed_after > 2:
            self._finish(state)
        return None

    def supervise(self) -> None:
        """Whoever looks: what happened without the ledger goes on record, what was asked for is taken to its end."""
        if not self.has_ledger:
            return
        for release_id in self.notes:
            if self._state(release_id).phase not in ("rolling_back", "rolled_back"):
                self._ask(self._state(release_id), Command(id=0, kind="rollback", by="ann", reason="complaints"))
        self.notes = []
        for state in reversed(self.states):
            if state.phase == "rolling_back" or (state.phase != "rolled_back" and state.release_id in self.commands):
                self._finish(state)

    def ledger_comes_or_goes(self) -> None:
        """The database is down, or back."""
        self.has_ledger = not self.has_ledger

    # -- how it happens ---------------------------------------------------------------------------------------------

    def _call_without_ledger(self, name: str) -> None:
        step = step_back(self.table.routes[ROUTE], self.way_back, name, "previous")
        if step.standing != "take_back" or step.wanted is None:
            return
        self._put(table_with(ROUTE, step.wanted, *self._at()))
        if step.release_id not in self.notes:
            self.notes.append(step.release_id)

    def _pasts(self) -> list[PastRelease]:
        return [
            PastRelease(release_id=state.release_id, bundle=state.candidate.bundle, phase=state.phase)
            for state in reversed(self.states)
        ]

    def _state(self, release_id: str) -> ReleaseState:
        return next(state for state in self.states if state.release_id == release_id)

    def _ask(self, state: ReleaseState, command: Command) -> None:
        self.commands[state.release_id] = command

    def _save(self, fresh: ReleaseState) -> None:
        self.states = [fresh if state.release_id == fresh.release_id else state for state in self.states]

    def _seen(self) -> Observation:
        names = {state.candidate.variant.model for state in self.states} | {"base"}
        page = RecordPage(
            boot_id="b",
            now=self.now,
            revision=self.table.revision,
            lease_remaining_s=None,
            records=(),
            in_flight=(),
            dropped=0,
            last_seq=0,
        )
        replica = ReplicaSeen(listed=frozenset(names), verified=frozenset(names))
        return Observation(
            gateways={"gw": GatewaySeen(table=self.table, pages=(page,))},
            replicas={VLLM: replica},
            ledger_table=self.table,
        )

    def _at(self) -> tuple[Observation, float]:
        return self._seen(), PLAN.lease_s

    def _serve(self, state: ReleaseState) -> None:
        wanted = wanted_route(PLAN, state)
        if wanted is not None:
            self._put(table_with(ROUTE, wanted, *self._at()))

    def _put(self, table: RoutingTable) -> None:
        self.table = table

    def _commit(self, live: Served) -> None:
        self.live = live
        made = next((s for s in reversed(self.states) if s.phase == "live" and s.candidate.bundle == live.bundle), None)
        self.way_back = WayBack(
            release_id=made.release_id if made is not None else "",
            live=live,
            to=made.stable if made is not None else self.base,
            base=self.base,
        )

    def _finish(self, state: ReleaseState) -> None:
        """The controller's ticks until the release is rolled back."""
        state = self._state(state.release_id)
        for _ in range(8):
            if state.phase == "rolled_back":
                return
            self.now += 1
            seen = self._seen().model_copy(update={"command": self.commands.get(state.release_id)})
            decision = decide(PLAN, state, seen, self.now)
            state = decision.state
            self._save(state)
            for action in decision.actions:
                if isinstance(action, SetTable):
                    self._put(action.table)
                elif isinstance(action, Commit):
                    self._commit(action.live)
                elif isinstance(action, Quarantine):
                    self.quarantined.add(state.release_id)
        raise RuntimeError(f"{state.release_id} does not come to its end: {state.phase}, {state.reason}")


@dataclass(frozen=True)
class Repeated:
    """What many histories came to."""

    histories: int
    calls: int
    repeated: int
    unmeant: int


def repeated_rollbacks(histories: int, seed: int = 11, rule: Rule = meant) -> Repeated:
    """Runs them. `rule`: which release a name means; the shipped one, or another to compare with."""
    calls = repeated = wrong = 0
    for number in range(histories):
        history = History(random.Random(f"{seed}-{number}"), rule)  # noqa: S311 - a simulation
        wrong += len(history.run())
        calls, repeated = calls + history.calls, repeated + history.repeated
    return Repeated(histories, calls, repeated, wrong)


def _served(name: str) -> Served:
    variant = Variant(model=name, upstreams=(VLLM,), bundle=f"sha256:{name}")
    path = None if name == "base" else f"/{name}"
    return Served(bundle=f"sha256:{name}", name=name, variant=variant, adapter_path=path)
