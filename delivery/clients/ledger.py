"""The ledger: the truth about releases, in SQLite by default, in PostgreSQL by URL.

A decision, the state that it leads to, its routing revision and its effects on pointers and quarantine are one
transaction, written before anything is applied; whoever starts again reads where things are. The environment's lease
is checked in the same transaction, so that a controller that lost it can write nothing.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from configs.canonical import canonical_json, short
from configs.errors import SlipwayError
from configs.rollout import RolloutPlan
from configs.routing import RoutingTable
from configs.strict import Strict
from delivery.bundle import Bundle
from delivery.clients import ledger_schema as schema
from delivery.clients.ledger_engine import open_engine
from delivery.gate import GateDecision
from delivery.release import (
    TERMINAL,
    Action,
    Approval,
    Command,
    Commit,
    Decision,
    Quarantine,
    ReleaseState,
    RenewLease,
    Served,
    SetTable,
)


class LedgerError(SlipwayError):
    """The ledger could not be read or written; nothing of the call was kept."""


class LeaseHeldError(LedgerError):
    """Somebody else controls the environment."""


class RevisionTakenError(LedgerError):
    """Somebody else decided another table under this revision; the next look at the ledger shows it."""


class RouteRow(Strict):
    """A route's pointers in one environment."""

    base: Served
    live: Served
    previous: Served | None


class Lease(Strict):
    """Who controls an environment, until when (UNIX seconds)."""

    owner: str
    expires_at: float


class Ledger:
    """One ledger by its SQLAlchemy URL. Migrates it when it is older. Safe to share between processes and threads."""

    def __init__(self, url: str, busy_timeout_s: float = 2.0):
        self.url = url
        with _explained(url):
            self._engine = open_engine(url, busy_timeout_s)

    def close(self) -> None:
        """Closes its connections."""
        self._engine.dispose()

    # -- the environment's lease ------------------------------------------------------------------------------------

    def acquire(self, environment: str, owner: str, ttl_s: float, now: float) -> None:
        """Takes or prolongs the lease by compare-and-swap. LeaseHeldError names the owner when it is taken."""
        with self._write() as connection:
            _acquire(connection, environment, owner, ttl_s, now)

    def holder(self, environment: str) -> Lease | None:
        """Who has the lease, expired or not."""
        with self._read() as connection:
            row = _one(connection, sa.select(schema.leases).where(schema.leases.c.environment == environment))
        return Lease(owner=row["owner"], expires_at=row["expires_at"]) if row else None

    def release_lease(self, environment: str, owner: str) -> None:
        """Gives the lease back, if this owner has it. Also for an owner that is known to be dead."""
        mine = (schema.leases.c.environment == environment) & (schema.leases.c.owner == owner)
        with self._write() as connection:
            connection.execute(sa.delete(schema.leases).where(mine))

    # -- releases and their decisions -------------------------------------------------------------------------------

    def begin(
        self, state: ReleaseState, plan: RolloutPlan, bundle: Bundle, owner: str, ttl_s: float, now: float
    ) -> None:
        """A new release, in the same transaction as the lease that it needs."""
        with self._write() as connection:
            _acquire(connection, state.environment, owner, ttl_s, now)
            _remember(connection, bundle, now)
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

    def record(self, decision: Decision, owner: str, ttl_s: float, now: float, *, heartbeat: bool = False) -> int:
        """Writes a decision ahead of its actions, prolongs the lease, returns the decision's number.

        LeaseHeldError: another controller took over. LedgerError: nothing was written, nothing may be applied but what
        makes things safer.
        """
        state = decision.state
        with self._write() as connection:
            _acquire(connection, state.environment, owner, ttl_s, now)
            _save_state(connection, state, now)
            number = _insert_decision(connection, decision, owner, now, heartbeat)
            for action in decision.actions:
                _take_effect(connection, state, action, decision.reason, now)
        return number

    def mark_applied(self, decision_id: int, action_index: int, now: float, error: str = "") -> None:
        """One of a decision's actions worked, or failed with this error."""
        with self._write() as connection:
            values = {"decision_id": decision_id, "action_index": action_index, "at": now, "error": error}
            connection.execute(sa.insert(schema.applied).values(**values))

    def save(self, state: ReleaseState, owner: str, ttl_s: float, now: float) -> None:
        """Replaces a release's state outside a decision: a watch that begins."""
        with self._write() as connection:
            _acquire(connection, state.environment, owner, ttl_s, now)
            _save_state(connection, state, now)

    def state(self, release_id: str) -> ReleaseState:
        """Where a release is. LedgerError when there is none."""
        return ReleaseState.model_validate(self._release(release_id)["state"])

    def plan(self, release_id: str) -> RolloutPlan:
        """The plan with which a release began; it keeps it to its end."""
        return RolloutPlan.model_validate(self._release(release_id)["plan"])

    def unfinished(self, environment: str, route: str) -> ReleaseState | None:
        """The release that is under way on a route, if any."""
        newest = _of_route(environment, route).where(schema.releases.c.phase.not_in(sorted(TERMINAL)))
        with self._read() as connection:
            row = _one(connection, newest.limit(1))
        return ReleaseState.model_validate(row["state"]) if row else None

    def release_that_made_live(self, environment: str, route: str, bundle: str) -> ReleaseState | None:
        """The newest release that ended with this bundle live: what a rollback undoes."""
        newest = _of_route(environment, route).where(
            (schema.releases.c.phase == "live") & (schema.releases.c.bundle == bundle)
        )
        with self._read() as connection:
            row = _one(connection, newest.limit(1))
        return ReleaseState.model_validate(row["state"]) if row else None

    def releases(self, environment: str, route: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Releases, newest first: id, route, bundle, phase, started_at, updated_at, reason."""
        query = _of_route(environment, route).limit(limit)
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
        wanted = ("id", "route", "bundle", "phase", "started_at", "updated_at")
        return [{**{name: row[name] for name in wanted}, "reason": _reason(row["state"])} for row in rows]

    def decisions(self, release_id: str, *, heartbeats: bool = False) -> list[dict[str, Any]]:
        """A release's decisions, oldest first, with everything that was compared."""
        query = sa.select(schema.decisions).where(schema.decisions.c.release_id == release_id)
        if not heartbeats:
            query = query.where(schema.decisions.c.kind == "decision")
        with self._read() as connection:
            return [dict(row) for row in connection.execute(query.order_by(schema.decisions.c.id)).mappings()]

    # -- people -----------------------------------------------------------------------------------------------------

    def add_command(
        self, release_id: str, kind: str, by: str, reason: str, now: float, target: Served | None = None
    ) -> None:
        """Asks the controller of a release for something."""
        _named(by, reason)
        with self._write() as connection:
            connection.execute(
                sa.insert(schema.commands).values(
                    release_id=release_id,
                    kind=kind,
                    by=by,
                    reason=reason,
                    target=target.model_dump(mode="json") if target else None,
                    at=now,
                )
            )

    def command(self, release_id: str) -> Command | None:
        """The newest thing that was asked of a release; a rollback outranks a cancel."""
        query = sa.select(schema.commands).where(schema.commands.c.release_id == release_id)
        with self._read() as connection:
            row = _one(connection, query.order_by(schema.commands.c.kind.desc(), schema.commands.c.id.desc()))
        if row is None:
            return None
        return Command.model_validate({name: row[name] for name in ("id", "kind", "by", "reason", "target")})

    def add_approval(self, release_id: str, stage_index: int, approved: bool, by: str, reason: str, now: float) -> None:
        """A named person's decision on a stage; a person and a reason are required."""
        _named(by, reason)
        values = {"release_id": release_id, "stage_index": stage_index, "approved": approved, "by": by}
        with self._write() as connection:
            connection.execute(sa.insert(schema.approvals).values(**values, reason=reason, at=now))

    def approval(self, release_id: str, stage_index: int) -> Approval | None:
        """The newest decision of a person on a stage."""
        table = schema.approvals
        query = sa.select(table).where((table.c.release_id == release_id) & (table.c.stage_index == stage_index))
        with self._read() as connection:
            row = _one(connection, query.order_by(table.c.id.desc()))
        if row is None:
            return None
        return Approval.model_validate({name: row[name] for name in ("stage_index", "approved", "by", "reason")})

    # -- routes, tables, quarantine ---------------------------------------------------------------------------------

    def route(self, environment: str, route: str) -> RouteRow | None:
        """What is live on a route; None before its first table."""
        where = (schema.routes.c.environment == environment) & (schema.routes.c.route == route)
        with self._read() as connection:
            row = _one(connection, sa.select(schema.routes).where(where))
        return RouteRow.model_validate({n: row[n] for n in ("base", "live", "previous")}) if row else None

    def set_base(self, environment: str, route: str, base: Served, bundle: Bundle, now: float) -> None:
        """The base of a route. The first one is live too; a later one is only what a rollback to the base serves."""
        where = (schema.routes.c.environment == environment) & (schema.routes.c.route == route)
        value = base.model_dump(mode="json")
        with self._write() as connection:
            _remember(connection, bundle, now)
            if connection.execute(sa.update(schema.routes).where(where).values(base=value)).rowcount:
                return
            values = {"environment": environment, "route": route, "base": value, "live": value}
            connection.execute(sa.insert(schema.routes).values(**values, previous=None, updated_at=now))

    def bundle(self, digest: str) -> Bundle | None:
        """A manifest that was released or served here before."""
        with self._read() as connection:
            row = _one(connection, sa.select(schema.bundles).where(schema.bundles.c.digest == digest))
        return Bundle.model_validate(row["manifest"]) if row else None

    def add_build(self, bundle: Bundle, gate: GateDecision, now: float) -> None:
        """What the eval gate said of a bundle."""
        with self._write() as connection:
            _remember(connection, bundle, now)
            values = {"bundle": bundle.digest, "gate": gate.model_dump(mode="json"), "at": now}
            connection.execute(sa.insert(schema.builds).values(**values))

    def gate(self, bundle: str) -> GateDecision | None:
        """What the eval gate last said of a bundle; None when it was never asked."""
        query = sa.select(schema.builds).where(schema.builds.c.bundle == bundle).order_by(schema.builds.c.id.desc())
        with self._read() as connection:
            row = _one(connection, query.limit(1))
        return GateDecision.model_validate(row["gate"]) if row else None

    def newest_table(self, environment: str) -> RoutingTable | None:
        """The table with the highest revision that was ever decided for an environment."""
        table = schema.routing_revisions
        query = sa.select(table).where(table.c.environment == environment).order_by(table.c.revision.desc())
        with self._read() as connection:
            row = _one(connection, query.limit(1))
        return RoutingTable.model_validate(row["table"]) if row else None

    def add_table(self, environment: str, table: RoutingTable, why: str, now: float) -> None:
        """A table that is no part of a release's decision: bootstrap, or a person's rollback."""
        with self._write() as connection:
            _add_table(connection, environment, table, None, why, now)

    def quarantined(self, bundle: str) -> str:
        """Why a bundle must not be released; empty when it may."""
        table = schema.quarantine
        query = sa.select(table).where(table.c.bundle == bundle).order_by(table.c.id.desc())
        with self._read() as connection:
            row = _one(connection, query.limit(1))
        return str(row["reason"]) if row and not row["lifted"] else ""

    def lift_quarantine(self, bundle: str, by: str, reason: str, now: float) -> None:
        """A named person lets a bundle be released again."""
        _named(by, reason)
        with self._write() as connection:
            _quarantine(connection, bundle, reason, by, now, lifted=True)

    def export(self) -> Iterator[str]:
        """Every row of every table as one line of JSON, `{"table": NAME, "row": {COLUMN: VALUE}}`, oldest first.

        Tables come in the order in which they refer to each other.
        """
        with self._read() as connection:
            for table in schema.metadata.sorted_tables:
                order = list(table.primary_key.columns)
                for row in connection.execute(sa.select(table).order_by(*order)).mappings():
                    yield json.dumps({"table": table.name, "row": dict(row)}, ensure_ascii=False)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _release(self, release_id: str) -> RowMapping:
        with self._read() as connection:
            row = _one(connection, sa.select(schema.releases).where(schema.releases.c.id == release_id))
        if row is None:
            raise LedgerError(f"the ledger knows no release {release_id}", where=self.url)
        return row

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with _explained(self.url), self._engine.connect() as bare:
            connection = bare.execution_options(slipway_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with _explained(self.url), self._engine.connect() as connection:
            yield connection


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error)
        cure = "see that its disk has room, that its folder is writable, and that nothing holds it locked"
        where = sa.make_url(url).render_as_string(hide_password=True)
        raise LedgerError(f"the ledger cannot be used: {cause}", where=where, cure=cure) from error


def _one(connection: Connection, query: sa.Select[Any]) -> RowMapping | None:
    return connection.execute(query.limit(1)).mappings().first()


def _of_route(environment: str, route: str | None) -> sa.Select[Any]:
    query = sa.select(schema.releases).where(schema.releases.c.environment == environment)
    if route is not None:
        query = query.where(schema.releases.c.route == route)
    return query.order_by(schema.releases.c.started_at.desc(), schema.releases.c.id.desc())


def _reason(state: dict[str, Any]) -> str:
    return str((state.get("rollback") or {}).get("reason") or state.get("reason") or "")


def _named(by: str, reason: str) -> None:
    if not by.strip() or not reason.strip():
        raise LedgerError(
            "a decision needs the name of a person and a reason",
            cure="say who you are and why: --by NAME --reason TEXT",
        )


def _acquire(connection: Connection, environment: str, owner: str, ttl_s: float, now: float) -> None:
    lease, mine = schema.leases, {"owner": owner, "expires_at": now + ttl_s}
    free = (lease.c.owner == owner) | (lease.c.expires_at < now)
    taken = connection.execute(sa.update(lease).where((lease.c.environment == environment) & free).values(**mine))
    if taken.rowcount:
        return
    row = _one(connection, sa.select(lease).where(lease.c.environment == environment))
    if row is not None:
        raise LeaseHeldError(
            f"environment {environment} is controlled by {row['owner']} for another {row['expires_at'] - now:.0f} s",
            cure="wait until it has ended, or stop it; a dead controller's lease ends by itself",
        )
    connection.execute(sa.insert(lease).values(environment=environment, **mine))


def _remember(connection: Connection, bundle: Bundle, now: float) -> None:
    known = _one(connection, sa.select(schema.bundles.c.digest).where(schema.bundles.c.digest == bundle.digest))
    if known is None:
        values = {"digest": bundle.digest, "manifest": bundle.model_dump(mode="json"), "first_seen_at": now}
        connection.execute(sa.insert(schema.bundles).values(**values))


def _save_state(connection: Connection, state: ReleaseState, now: float) -> None:
    saved = connection.execute(
        sa.update(schema.releases)
        .where(schema.releases.c.id == state.release_id)
        .values(phase=state.phase, state=state.model_dump(mode="json"), updated_at=now)
    )
    if saved.rowcount != 1:
        raise LedgerError(f"the ledger knows no release {state.release_id}")


def _insert_decision(connection: Connection, decision: Decision, owner: str, now: float, heartbeat: bool) -> int:
    state, evidence = decision.state, decision.state.evidence
    lasting = [action for action in decision.actions if not isinstance(action, RenewLease)]
    counts = {
        "epoch": evidence.epoch,
        "candidate": {"requests": evidence.candidate.requests, "errors": evidence.candidate.errors},
        "stable": {"requests": evidence.stable.requests, "errors": evidence.stable.errors},
        "user_requests": evidence.user_requests,
        "failed_user_requests": evidence.failed_user_requests,
        "dropped": evidence.dropped,
        "gateway_restarts": evidence.restarts,
    }
    inserted = connection.execute(
        sa.insert(schema.decisions).values(
            release_id=state.release_id,
            at=now,
            kind="heartbeat" if heartbeat else "decision",
            phase=state.phase,
            stage_index=state.stage_index,
            verdict=decision.verdict,
            reason=decision.reason,
            results=[result.model_dump(mode="json") for result in decision.results],
            counts=counts,
            actions=[action.model_dump(mode="json") for action in lasting],
            who=owner,
        )
    )
    return int(cast(Any, inserted.inserted_primary_key)[0])


def _take_effect(connection: Connection, state: ReleaseState, action: Action, why: str, now: float) -> None:
    if isinstance(action, SetTable):
        _add_table(connection, state.environment, action.table, state.release_id, why, now)
    elif isinstance(action, Quarantine):
        by = state.rollback.by if state.rollback else "slipway"
        _quarantine(connection, action.bundle, action.reason, by, now, lifted=False)
    elif isinstance(action, Commit):
        table = schema.routes
        where = (table.c.environment == state.environment) & (table.c.route == state.route)
        previous = action.previous.model_dump(mode="json") if action.previous else None
        values = {"live": action.live.model_dump(mode="json"), "previous": previous, "updated_at": now}
        if connection.execute(sa.update(table).where(where).values(**values)).rowcount != 1:
            raise LedgerError(f"route {state.route} has no base in environment {state.environment}")


def _add_table(
    connection: Connection, environment: str, table: RoutingTable, release_id: str | None, why: str, now: float
) -> None:
    rows = schema.routing_revisions
    where = (rows.c.environment == environment) & (rows.c.revision == table.revision)
    known = _one(connection, sa.select(rows).where(where))
    value = table.model_dump(mode="json")
    if known is None:
        values = {"environment": environment, "revision": table.revision, "release_id": release_id}
        connection.execute(sa.insert(rows).values(**values, table=value, why=why, at=now))
    elif canonical_json(known["table"]) != canonical_json(value):
        raise RevisionTakenError(f"revision {table.revision} of {environment} is another table already: {known['why']}")


def _quarantine(connection: Connection, bundle: str, reason: str, by: str, now: float, *, lifted: bool) -> None:
    newest = _one(
        connection,
        sa.select(schema.quarantine)
        .where(schema.quarantine.c.bundle == bundle)
        .order_by(schema.quarantine.c.id.desc()),
    )
    if lifted and (newest is None or newest["lifted"]):
        raise LedgerError(f"bundle {short(bundle)} is not quarantined")
    if newest is None or newest["lifted"] != lifted:
        values = {"bundle": bundle, "lifted": lifted, "reason": reason, "by": by, "at": now}
        connection.execute(sa.insert(schema.quarantine).values(**values))
