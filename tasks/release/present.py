"""The present of one route, as fresh as its gateways: what is served, and what the release under way knows by now.

The controller puts its state on record when something changes, and every ten seconds. In between, the gateways' records
that came since are folded into that state by the same pure functions; nothing is written, and nothing is decided.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import SlipwayError
from configs.project import Project
from configs.rollout import RolloutPlan
from configs.routing import RoutingTable
from delivery.checks.fold import fold
from delivery.checks.growth import NextPass, Point, next_pass, points_of, thinned
from delivery.checks.verdicts import Judgement, judge
from delivery.clients.at_once import at_once
from delivery.clients.gateway import GatewayClient
from delivery.clients.ledger.outbox import Waiting
from delivery.release.routes import current_stage
from delivery.release.state import ReleaseState
from delivery.release.take_back import Meant, meant
from delivery.traffic.assignment import shares
from delivery.traffic.records import RecordPage
from tasks.release.left_behind import left_behind
from tasks.release.lookout import pages_since
from tasks.release.site import Site, open_site
from tasks.serving.target import PartState

SLOW_S = 5.0  # how often the parts of the target are looked at, which may mean a question to a cluster


@dataclass(frozen=True)
class UnderWay:
    """A release and its evidence at this moment."""

    state: ReleaseState
    plan: RolloutPlan
    judgement: Judgement | None  # None: nothing is judged in this phase
    curves: dict[str, list[Point]]
    next_pass: NextPass | None
    controller: str  # who drives it; empty: nobody does
    recorded_at: float


@dataclass(frozen=True)
class RoutePresent:
    """What one look at a route found. `shares`: basis points of the users by variant; None: no gateway answers."""

    route: str
    environment: str
    at: float
    live: str | None
    previous: str | None
    shares: dict[str, int] | None
    bundles: dict[str, str]  # by variant
    stable: str
    revision: int | None
    lease_remaining_s: float | None
    silent: tuple[str, ...]  # gateways that do not answer
    behind: tuple[str, ...]  # gateways that serve another table
    down: tuple[str, ...]  # parts of the target, each with what is wrong
    under_way: UnderWay | None
    newest: ReleaseState | None  # the release that was begun last
    takes_back: Meant
    left_behind: str | None
    untold: tuple[Waiting, ...]
    took_s: float = 0.0


@dataclass
class RouteWatch:
    """Looks at one route again and again, over connections that stay open. `parts`: how its target's parts are."""

    site: Site
    project: Project
    parts: Callable[[], Sequence[PartState]]
    _slow_at: float = field(default=float("-inf"))
    _down: tuple[str, ...] = ()
    _release: str = ""
    _last: int = 0  # the newest decision that was read
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _seen: dict[str, list[Point]] = field(default_factory=dict)
    _epoch: str = ""

    def look(self) -> RoutePresent:
        """One look. Raises LedgerError."""
        began, site, route = time.monotonic(), self.site, self.project.route
        now, ledger = site.clock(), site.ledger
        state = ledger.unfinished(site.name, route)
        row = ledger.route(site.name, route)
        seen = at_once({name: partial(_ask, client, state, name) for name, client in site.gateways.items()})
        answers = {name: one for name, one in seen.items() if not isinstance(one, SlipwayError)}
        tables = [one.table for one in answers.values() if one.table is not None]
        newest = max(tables, key=lambda table: table.revision, default=None)
        served = newest.routes.get(route) if newest is not None else None
        leases = [one.lease_s for one in answers.values() if one.table == newest and one.lease_s is not None]
        lost = left_behind(site, route)
        live = row.live.bundle if row else None
        pasts = ledger.pasts(site.name, route)
        newest_release = state or (ledger.state(pasts[0].release_id) if pasts else None)
        return RoutePresent(
            route=route,
            environment=site.name,
            at=now,
            live=live,
            previous=row.previous.bundle if row and row.previous else None,
            shares=shares(served) if served is not None else None,
            bundles={name: variant.bundle or "" for name, variant in served.variants.items()} if served else {},
            stable=served.stable if served is not None else "",
            revision=newest.revision if newest is not None else None,
            lease_remaining_s=min(leases, default=None),
            silent=tuple(sorted(set(seen) - set(answers))),
            behind=tuple(sorted(name for name, one in answers.items() if one.table != newest)),
            down=self._parts_down(),
            under_way=self._under_way(state, {name: one.pages for name, one in answers.items()}, now),
            newest=newest_release,
            takes_back=meant(pasts, live or ""),
            left_behind=lost.release_id if lost else None,
            untold=tuple(ledger.outbox.waiting(site.name)),
            took_s=time.monotonic() - began,
        )

    def _parts_down(self) -> tuple[str, ...]:
        if time.monotonic() - self._slow_at >= SLOW_S:
            parts = self.parts()
            self._down = tuple(
                f"{part.name} {'does not answer' if part.running else 'is down'}" for part in parts if not part.healthy
            )
            self._slow_at = time.monotonic()
        return self._down

    def _under_way(
        self, state: ReleaseState | None, pages: dict[str, tuple[RecordPage, ...]], now: float
    ) -> UnderWay | None:
        if state is None:
            return None
        ledger, recorded_at = self.site.ledger, state.clocks.last_tick_at
        plan = ledger.plan(state.release_id)
        holder = ledger.holder(self.site.name)
        controller = holder.owner if holder is not None and holder.expires_at >= now else ""
        if state.phase not in ("stage", "watching"):
            return UnderWay(state, plan, None, {}, None, controller, recorded_at)
        stage = current_stage(plan, state)
        evidence = fold(state.evidence, plan, stage, state.release_id, pages)
        judgement = judge(plan, stage, evidence)
        state = state.model_copy(update={"evidence": evidence})
        curves = self._curves(state, judgement, now)
        epoch_s = state.clocks.epoch_s + max(0.0, now - recorded_at)
        waits = (
            next_pass(stage, judgement.facts, judgement.results, epoch_s, curves) if state.phase == "stage" else None
        )
        return UnderWay(state, plan, judgement, curves, waits, controller, recorded_at)

    def _curves(self, state: ReleaseState, judgement: Judgement, now: float) -> dict[str, list[Point]]:
        """What is on record of this epoch, and what was seen since in between."""
        if self._release != state.release_id:
            self._release, self._last, self._rows = state.release_id, 0, []
        if self._epoch != state.evidence.epoch:
            self._epoch, self._seen = state.evidence.epoch, {}
        fresh = self.site.ledger.audit.decisions_after(state.release_id, self._last)
        self._last = fresh[-1]["id"] if fresh else self._last
        mine = [*self._rows, *({name: row[name] for name in ("at", "counts", "results")} for row in fresh)]
        self._rows = [row for row in mine if row["counts"].get("epoch") == self._epoch]
        for result in judgement.results:
            n = judgement.facts.candidate_requests
            point = Point(at=now, n=n, worse=result.e_worse, within=result.e_better)
            self._seen[result.check] = thinned([*self._seen.get(result.check, ()), point])
        recorded = points_of(self._rows, self._epoch)
        return {name: _merged(recorded.get(name, ()), seen) for name, seen in self._seen.items()}


def _merged(recorded: Sequence[Point], seen: Sequence[Point]) -> list[Point]:
    """What was seen is finer than what is on record, and goes on from it."""
    return thinned([*(one for one in recorded if one.at < seen[0].at), *seen])


def watch_route(project: Project, home: Path) -> RouteWatch:
    """Over the environment's own ledger, gateways and target."""
    site = open_site(project.environment, home)
    return RouteWatch(site, project, lambda: site.target.state())


@dataclass(frozen=True)
class _Answer:
    table: RoutingTable | None
    lease_s: float | None
    pages: tuple[RecordPage, ...]


def _ask(client: GatewayClient, state: ReleaseState | None, name: str) -> _Answer:
    """A gateway's table, and its records since those that the release has on record."""
    table = client.table()
    pages = [client.records(0, 1)] if state is None else pages_since(name, client, state)
    return _Answer(table, pages[-1].lease_remaining_s, () if state is None else tuple(pages))
