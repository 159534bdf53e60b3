"""What a transaction of the ledger writes, piece by piece; every function here runs inside one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from configs.canonical import short
from configs.routing import RoutingTable
from delivery.build.bundle import Bundle
from delivery.clients.ledger import schema as schema
from delivery.clients.ledger.chain import insert_once, put, put_once
from delivery.clients.ledger.errors import LeaseHeldError, LedgerError, RevisionTakenError
from delivery.release.state import Action, Commit, Decision, Quarantine, ReleaseState, RenewLease, SetTable

Transaction = Callable[[], AbstractContextManager[Connection]]
AuditEvent = Literal[
    "lease_taken",
    "lease_given_back",
    "release_begun",
    "watch_begun",
    "base_set",
    "table_put",
    "asked_for",
    "refreshed",
    "refresh_looked",
]
"""What no table of its own tells of."""


def first(connection: Connection, query: sa.Select[Any]) -> RowMapping | None:
    """The first row, if any."""
    return connection.execute(query.limit(1)).mappings().first()


def note(
    connection: Connection,
    environment: str,
    kind: AuditEvent,
    who: str,
    text: str,
    now: float,
    release_id: str | None = None,
) -> None:
    """One line of the audit."""
    values = {"environment": environment, "release_id": release_id, "kind": kind, "who": who, "text": text, "at": now}
    put(connection, schema.events, values)


def prolong(connection: Connection, environment: str, owner: str, ttl_s: float, now: float) -> None:
    """Prolongs the lease of the owner who has it, also an ended one that nobody took.

    LeaseHeldError when he has it no more, even if it is free again: in between somebody else may have moved things on.
    """
    if _prolonged(connection, environment, owner, now + ttl_s):
        return
    row = first(connection, sa.select(schema.leases).where(schema.leases.c.environment == environment))
    raise LeaseHeldError(
        f"{owner} does not control environment {environment} any more: {row['owner'] if row else 'nobody'} does",
        cure="nothing is lost: the same command again goes on from the ledger",
    )


def _prolonged(connection: Connection, environment: str, owner: str, expires_at: float) -> bool:
    mine = (schema.leases.c.environment == environment) & (schema.leases.c.owner == owner)
    return bool(connection.execute(sa.update(schema.leases).where(mine).values(expires_at=expires_at)).rowcount)


def acquire(connection: Connection, environment: str, owner: str, ttl_s: float, now: float) -> None:
    """Prolongs the owner's lease, or takes a free or ended one by compare-and-swap. Raises LeaseHeldError."""
    lease, fresh = schema.leases, {"owner": owner, "expires_at": now + ttl_s}
    here = lease.c.environment == environment
    if _prolonged(connection, environment, owner, now + ttl_s):
        return
    row = first(connection, sa.select(lease).where(here))
    if row is None and insert_once(connection, lease, {"environment": environment, **fresh}):
        note(connection, environment, "lease_taken", owner, "it was free", now)
        return
    row = row or first(connection, sa.select(lease).where(here))
    if row is not None and row["expires_at"] < now:
        same = here & (lease.c.owner == row["owner"]) & (lease.c.expires_at == row["expires_at"])
        if connection.execute(sa.update(lease).where(same).values(**fresh)).rowcount:
            text = f"from {row['owner']}, whose lease ended {now - row['expires_at']:.0f} s before"
            note(connection, environment, "lease_taken", owner, text, now)
            return
        row = first(connection, sa.select(lease).where(here))
    who, left_s = (row["owner"], row["expires_at"] - now) if row else ("somebody else", 0.0)
    raise LeaseHeldError(
        f"environment {environment} is controlled by {who} for another {left_s:.0f} s",
        cure="wait until it has ended, or stop it; a dead controller's lease ends by itself",
    )


def remember(connection: Connection, bundle: Bundle, now: float) -> None:
    """Keeps a manifest that is not known yet."""
    values = {"digest": bundle.digest, "manifest": bundle.model_dump(mode="json"), "first_seen_at": now}
    put_once(connection, schema.bundles, values)


def save_state(connection: Connection, state: ReleaseState, now: float) -> None:
    """Where a release is now."""
    saved = connection.execute(
        sa.update(schema.releases)
        .where(schema.releases.c.id == state.release_id)
        .values(phase=state.phase, state=state.model_dump(mode="json"), updated_at=now)
    )
    if saved.rowcount != 1:
        raise LedgerError(f"the ledger knows no release {state.release_id}")


def insert_decision(connection: Connection, decision: Decision, owner: str, now: float, heartbeat: bool) -> int:
    """A decision with everything that it compared; returns its number."""
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
        "pairs_asked": evidence.judging.asked,
        "facts": decision.facts.model_dump(mode="json") if decision.facts else None,
    }
    values = {
        "release_id": state.release_id,
        "at": now,
        "kind": "heartbeat" if heartbeat else "decision",
        "phase": state.phase,
        "stage_index": state.stage_index,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "results": [result.model_dump(mode="json") for result in decision.results],
        "counts": counts,
        "actions": [action.model_dump(mode="json") for action in lasting],
        "who": owner,
    }
    return int(put(connection, schema.decisions, values))


def take_effect(connection: Connection, state: ReleaseState, action: Action, why: str, now: float) -> None:
    """What an action means for the ledger itself: tables, pointers, quarantine."""
    if isinstance(action, SetTable):
        add_table(connection, state.environment, action.table, state.release_id, why, now)
    elif isinstance(action, Quarantine):
        by = state.rollback.by if state.rollback else "slipway"
        quarantine(connection, action.bundle, action.reason, by, now, lifted=False)
    elif isinstance(action, Commit):
        table = schema.routes
        where = (table.c.environment == state.environment) & (table.c.route == state.route)
        previous = action.previous.model_dump(mode="json") if action.previous else None
        values = {"live": action.live.model_dump(mode="json"), "previous": previous, "updated_at": now}
        if connection.execute(sa.update(table).where(where).values(**values)).rowcount != 1:
            raise LedgerError(f"route {state.route} has no base in environment {state.environment}")


def add_table(
    connection: Connection, environment: str, table: RoutingTable, release_id: str | None, why: str, now: float
) -> bool:
    """Whether the table is new. RevisionTakenError: another one has its revision."""
    rows, value = schema.routing_revisions, table.model_dump(mode="json")
    values = {"environment": environment, "revision": table.revision, "release_id": release_id}
    if put_once(connection, rows, {**values, "table": value, "why": why, "at": now}):
        return True
    where = (rows.c.environment == environment) & (rows.c.revision == table.revision)
    known = first(connection, sa.select(rows).where(where))
    if known is None or RoutingTable.model_validate(known["table"]) != table:  # an older version wrote fewer fields
        what = known["why"] if known else "it is gone"
        raise RevisionTakenError(f"revision {table.revision} of {environment} is another table already: {what}")
    return False


def quarantine(connection: Connection, bundle: str, reason: str, by: str, now: float, *, lifted: bool) -> None:
    """A row when it changes anything. LedgerError: lifted, and not there."""
    table = schema.quarantine
    newest = first(connection, sa.select(table).where(table.c.bundle == bundle).order_by(table.c.id.desc()))
    if lifted and (newest is None or newest["lifted"]):
        raise LedgerError(f"bundle {short(bundle)} is not quarantined")
    if newest is None or newest["lifted"] != lifted:
        values = {"bundle": bundle, "lifted": lifted, "reason": reason, "by": by, "at": now}
        put(connection, table, values)
