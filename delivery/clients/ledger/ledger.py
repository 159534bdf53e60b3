"""The ledger: the truth about releases, in SQLite by default, in PostgreSQL by URL.

A decision, the state that it leads to, its routing revision and its effects on pointers and quarantine are one
transaction, written before anything is applied; whoever starts again reads where things are. The environment's lease
is checked in the same transaction, so that a controller that lost it can write nothing. Times are the callers' clocks:
machines that share a ledger must agree on the time to within a few seconds, or a lease seems to end too early; then one
of two controllers stops, and neither does harm.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from configs.rollout import RolloutPlan
from configs.routing import RoutingTable
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.build.refresh import LastRefresh, RefreshSaid
from delivery.clients.ledger import needs as need
from delivery.clients.ledger import reads as read
from delivery.clients.ledger import schema as schema
from delivery.clients.ledger import writes as write
from delivery.clients.ledger.audit import Audit
from delivery.clients.ledger.chain import PUT, insert_once, put, seal
from delivery.clients.ledger.engine import open_engine
from delivery.clients.ledger.errors import LeaseHeldError, LedgerError, RevisionTakenError, explained, named
from delivery.clients.ledger.outbox import Outbox, post
from delivery.clients.ledger.reads import Lease, RouteRow
from delivery.clients.ledger.review import ReviewItems
from delivery.release.messages import Letter
from delivery.release.state import Approval, Command, Decision, ReleaseState, Served
from delivery.release.take_back import PastRelease

__all__ = ["LeaseHeldError", "Ledger", "LedgerError", "RevisionTakenError"]


class Ledger:
    """One ledger by its SQLAlchemy URL. Migrates it when it is older. Safe to share between processes and threads."""

    def __init__(self, url: str, busy_timeout_s: float = 2.0):
        self.url = url
        with explained(url):
            self._engine = open_engine(url, busy_timeout_s)
        self.outbox = Outbox(self._write, self._read)
        self.audit = Audit(self._write, self._read)
        self.review = ReviewItems(self._write, self._read)

    def close(self) -> None:
        """Closes its connections."""
        self._engine.dispose()

    # -- the environment's lease ------------------------------------------------------------------------------------

    def acquire(self, environment: str, owner: str, ttl_s: float, now: float) -> None:
        """Takes or prolongs the lease by compare-and-swap. LeaseHeldError names the owner when it is taken."""
        with self._write() as connection:
            write.acquire(connection, environment, owner, ttl_s, now)

    def prolong(self, environment: str, owner: str, ttl_s: float, now: float) -> None:
        """Prolongs the lease that this owner has. LeaseHeldError when it has it no more."""
        with self._write() as connection:
            write.prolong(connection, environment, owner, ttl_s, now)

    def holder(self, environment: str) -> Lease | None:
        """Who has the lease, expired or not."""
        with self._read() as connection:
            return read.holder(connection, environment)

    def release_lease(self, environment: str, owner: str, now: float, by: str = "") -> None:
        """Gives the lease back, if this owner has it. `by`: who does it for an owner that is known to be dead."""
        mine = (schema.leases.c.environment == environment) & (schema.leases.c.owner == owner)
        with self._write() as connection:
            if connection.execute(sa.delete(schema.leases).where(mine)).rowcount:
                text = "" if by in ("", owner) else f"of {owner}, whose process has ended"
                write.note(connection, environment, "lease_given_back", by or owner, text, now)

    # -- releases and their decisions -------------------------------------------------------------------------------

    def begin(
        self,
        state: ReleaseState,
        plan: RolloutPlan,
        bundle: Bundle,
        owner: str,
        ttl_s: float,
        now: float,
        by: str = "slipway",
    ) -> None:
        """A new release that somebody asked for, in the same transaction as the lease that it needs."""
        with self._write() as connection:
            write.prolong(connection, state.environment, owner, ttl_s, now)
            write.remember(connection, bundle, now)
            connection.execute(
                sa.insert(schema.releases).values(
                    id=state.release_id,
                    environment=state.environment,
                    route=state.route,
                    bundle=bundle.digest,
                    phase=state.phase,
                    plan=plan.model_dump(mode="json"),
                    state=state.model_dump(mode="json"),
                    started_at=now,
                    updated_at=now,
                )
            )
            text = f"bundle {bundle.digest} on route {state.route}, controlled by {owner}"
            write.note(connection, state.environment, "release_begun", by, text, now, state.release_id)

    def record(
        self,
        decision: Decision,
        owner: str,
        ttl_s: float,
        now: float,
        *,
        heartbeat: bool = False,
        letters: Sequence[Letter] = (),
    ) -> int:
        """Writes a decision ahead of its actions, prolongs the lease, returns the decision's number.

        `letters`: what people are told of it. They are on record with it, or neither is.
        LeaseHeldError: another controller took over. LedgerError: nothing was written, nothing may be applied but what
        makes things safer.
        """
        state = decision.state
        with self._write() as connection:
            write.prolong(connection, state.environment, owner, ttl_s, now)
            write.save_state(connection, state, now)
            number = write.insert_decision(connection, decision, owner, now, heartbeat)
            for action in decision.actions:
                write.take_effect(connection, state, action, decision.reason, now)
            post(connection, letters)
        return number

    def mark_applied(self, decision_id: int, action_index: int, now: float, error: str = "") -> None:
        """One of a decision's actions worked, or failed with this error."""
        with self._write() as connection:
            values = {"decision_id": decision_id, "action_index": action_index, "at": now, "error": error}
            put(connection, schema.applied, values)

    def begin_watch(self, state: ReleaseState, owner: str, ttl_s: float, now: float) -> None:
        """A live release is under observation again."""
        with self._write() as connection:
            write.prolong(connection, state.environment, owner, ttl_s, now)
            write.save_state(connection, state, now)
            text = f"for {state.watch_s:g} s, {state.holdback_bp} basis points held back"
            write.note(connection, state.environment, "watch_begun", owner, text, now, state.release_id)

    def state(self, release_id: str) -> ReleaseState:
        """Where a release is. LedgerError when there is none."""
        return ReleaseState.model_validate(self._release(release_id)["state"])

    def plan(self, release_id: str) -> RolloutPlan:
        """The plan with which a release began; it keeps it to its end."""
        return RolloutPlan.model_validate(self._release(release_id)["plan"])

    def unfinished(self, environment: str, route: str) -> ReleaseState | None:
        """The release that is under way on a route, if any."""
        with self._read() as connection:
            return read.unfinished(connection, environment, route)

    def release_that_made_live(self, environment: str, route: str, bundle: str) -> ReleaseState | None:
        """The newest release that ended with this bundle live: what a rollback undoes."""
        with self._read() as connection:
            return read.release_that_made_live(connection, environment, route, bundle)

    def pasts(self, environment: str, route: str) -> list[PastRelease]:
        """Every release of a route, newest first, as far as a rollback has to know it."""
        with self._read() as connection:
            return read.pasts(connection, environment, route)

    def releases(self, environment: str, route: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Releases, newest first: id, route, bundle, phase, started_at, updated_at, reason."""
        with self._read() as connection:
            return read.releases(connection, environment, route, limit)

    def decisions(self, release_id: str, *, heartbeats: bool = False) -> list[dict[str, Any]]:
        """A release's decisions, oldest first, with everything that was compared."""
        with self._read() as connection:
            return read.decisions(connection, release_id, heartbeats)

    # -- people -----------------------------------------------------------------------------------------------------

    def add_command(
        self,
        release_id: str,
        kind: str,
        by: str,
        reason: str,
        now: float,
        target: Served | None = None,
        *,
        quarantine: bool = True,
    ) -> None:
        """Asks the controller of a release for something. `quarantine`: whether a rollback rules its bundle out."""
        named(by, reason)
        asked = {"kind": kind, "by": by, "reason": reason, "quarantine": quarantine, "at": now}
        to = target.model_dump(mode="json") if target else None
        with self._write() as connection:
            put(connection, schema.commands, {"release_id": release_id, "target": to, **asked})

    def command(self, release_id: str) -> Command | None:
        """The newest thing that was asked of a release; a rollback outranks a cancel."""
        with self._read() as connection:
            return read.command(connection, release_id)

    def add_approval(self, release_id: str, stage_index: int, approved: bool, by: str, reason: str, now: float) -> None:
        """A named person's decision on a stage; a person and a reason are required."""
        named(by, reason)
        values = {"release_id": release_id, "stage_index": stage_index, "approved": approved, "by": by}
        with self._write() as connection:
            put(connection, schema.approvals, {**values, "reason": reason, "at": now})

    def approval(self, release_id: str, stage_index: int) -> Approval | None:
        """The newest decision of a person on a stage."""
        with self._read() as connection:
            return read.approval(connection, release_id, stage_index)

    # -- routes, tables, quarantine ---------------------------------------------------------------------------------

    def route(self, environment: str, route: str) -> RouteRow | None:
        """What is live on a route; None before its first table."""
        with self._read() as connection:
            return read.route(connection, environment, route)

    def set_base(self, environment: str, route: str, base: Served, bundle: Bundle, who: str, now: float) -> None:
        """The base of a route. The first one is live too; a later one is only what a rollback to the base serves."""
        where = (schema.routes.c.environment == environment) & (schema.routes.c.route == route)
        value = base.model_dump(mode="json")
        values = {"environment": environment, "route": route, "base": value, "live": value, "updated_at": now}
        with self._write() as connection:
            write.remember(connection, bundle, now)
            if not insert_once(connection, schema.routes, {**values, "previous": None}):
                known = write.first(connection, sa.select(schema.routes.c.base).where(where))
                if known is not None and known["base"] == value:
                    return
                connection.execute(sa.update(schema.routes).where(where).values(base=value))
            write.note(connection, environment, "base_set", who, f"route {route}: bundle {bundle.digest}", now)

    def bundle(self, digest: str) -> Bundle | None:
        """A manifest that was released or served here before."""
        with self._read() as connection:
            return read.bundle(connection, digest)

    def bundles_since(self) -> dict[str, float]:
        """All bundles that were ever built, released or served here: digest and when it came in, in UNIX seconds."""
        with self._read() as connection:
            return read.bundles_since(connection)

    def add_build(self, bundle: Bundle, gate: GateDecision, now: float, letters: Sequence[Letter] = ()) -> None:
        """What the eval gate said of a bundle, and what people are told of it."""
        with self._write() as connection:
            write.remember(connection, bundle, now)
            values = {"bundle": bundle.digest, "gate": gate.model_dump(mode="json"), "at": now}
            put(connection, schema.builds, values)
            post(connection, letters)

    def note_refresh(
        self, environment: str, route: str, inputs: dict[str, str], who: str, now: float, said: str = ""
    ) -> None:
        """A refresh of these inputs (digests by name) has come to its end; `said` is its paragraph for people."""
        text = json.dumps({"route": route, "inputs": inputs, "said": said}, sort_keys=True)
        with self._write() as connection:
            write.note(connection, environment, "refreshed", who, text, now)

    def note_refresh_look(self, environment: str, route: str, who: str, now: float, said: str, ended: bool) -> None:
        """A refresh has looked whether it has anything to do; not `ended`: it has, and goes on."""
        text = json.dumps({"route": route, "said": said, "ended": ended}, sort_keys=True)
        with self._write() as connection:
            write.note(connection, environment, "refresh_looked", who, text, now)

    def last_refresh(self, environment: str, route: str) -> LastRefresh | None:
        """The last refresh of a route that came to its end, not one that had nothing to do; None: there was none."""
        with self._read() as connection:
            return read.last_refresh(connection, environment, route)

    def refresh_said(self, environment: str, route: str) -> RefreshSaid | None:
        """What the newest refresh of a route said of itself, also one that had nothing to do."""
        with self._read() as connection:
            return read.refresh_said(connection, environment, route)

    def gate(self, bundle: str) -> GateDecision | None:
        """What the eval gate last said of a bundle; None when it was never asked."""
        with self._read() as connection:
            return read.gate(connection, bundle)

    def newest_table(self, environment: str) -> RoutingTable | None:
        """The table with the highest revision that was ever decided for an environment."""
        with self._read() as connection:
            return read.newest_table(connection, environment)

    def add_table(self, environment: str, table: RoutingTable, why: str, who: str, now: float) -> None:
        """A table that is no part of a release's decision: bootstrap, or a person's rollback."""
        with self._write() as connection:
            if write.add_table(connection, environment, table, None, why, now):
                write.note(connection, environment, "table_put", who, f"revision {table.revision}: {why}", now)

    def quarantined(self, bundle: str) -> str:
        """Why a bundle must not be released; empty when it may."""
        with self._read() as connection:
            return read.quarantined(connection, bundle)

    def lift_quarantine(self, bundle: str, by: str, reason: str, now: float) -> None:
        """A named person lets a bundle be released again."""
        named(by, reason)
        with self._write() as connection:
            write.quarantine(connection, bundle, reason, by, now, lifted=True)

    def needs(self) -> list[tuple[str, str]]:
        """The bundles that must stay, of all environments in it: digest and why. One may be in it several times."""
        with self._read() as connection:
            return need.needs(connection)

    def export(self) -> Iterator[str]:
        """Every row of every table as one line of JSON, `{"table": NAME, "row": {COLUMN: VALUE}}`, oldest first.

        Tables come in the order in which they refer to each other. What people said in the review queue is left out.
        """
        with self._read() as connection:
            yield from read.lines(connection)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _release(self, release_id: str) -> RowMapping:
        with self._read() as connection:
            row = read.release(connection, release_id)
        if row is None:
            raise LedgerError(f"the ledger knows no release {release_id}", where=self.url)
        return row

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with explained(self.url), self._engine.connect() as bare:
            connection = bare.execution_options(slipway_writes=True, **{PUT: []})
            with connection.begin():
                yield connection
                seal(connection)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with explained(self.url), self._engine.connect() as connection:
            yield connection
