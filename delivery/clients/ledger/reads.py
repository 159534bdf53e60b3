"""What is read from the ledger, row by row; every function here runs inside a connection."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from configs.routing import RoutingTable
from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.build.refresh import LastRefresh, RefreshSaid
from delivery.clients.ledger import schema as schema
from delivery.clients.ledger.writes import AuditEvent, first
from delivery.release.state import TERMINAL, Approval, Command, ReleaseState, Served
from delivery.release.take_back import PastRelease


class RouteRow(Strict):
    """A route's pointers in one environment."""

    base: Served
    live: Served
    previous: Served | None


class Lease(Strict):
    """Who controls an environment, until when (UNIX seconds)."""

    owner: str
    expires_at: float


def holder(connection: Connection, environment: str) -> Lease | None:
    """Who has the lease, expired or not."""
    row = first(connection, sa.select(schema.leases).where(schema.leases.c.environment == environment))
    return Lease(owner=row["owner"], expires_at=row["expires_at"]) if row else None


def release(connection: Connection, release_id: str) -> RowMapping | None:
    """A release's row."""
    return first(connection, sa.select(schema.releases).where(schema.releases.c.id == release_id))


def unfinished(connection: Connection, environment: str, route: str) -> ReleaseState | None:
    """The newest release of a route that has not ended."""
    row = first(connection, _of_route(environment, route).where(schema.releases.c.phase.not_in(sorted(TERMINAL))))
    return ReleaseState.model_validate(row["state"]) if row else None


def release_that_made_live(connection: Connection, environment: str, route: str, bundle: str) -> ReleaseState | None:
    """The newest release that ended with this bundle live."""
    is_it = (schema.releases.c.phase == "live") & (schema.releases.c.bundle == bundle)
    row = first(connection, _of_route(environment, route).where(is_it))
    return ReleaseState.model_validate(row["state"]) if row else None


def pasts(connection: Connection, environment: str, route: str) -> list[PastRelease]:
    """Every release of a route, newest first."""
    table = schema.releases
    query = _of_route(environment, route).with_only_columns(table.c.id, table.c.bundle, table.c.phase)
    return [
        PastRelease(release_id=row["id"], bundle=row["bundle"], phase=row["phase"])
        for row in connection.execute(query).mappings()
    ]


def releases(connection: Connection, environment: str, route: str | None, limit: int) -> list[dict[str, Any]]:
    """Releases, newest first."""
    rows = connection.execute(_of_route(environment, route).limit(limit)).mappings().all()
    wanted = ("id", "route", "bundle", "phase", "started_at", "updated_at")
    return [{**{name: row[name] for name in wanted}, "reason": _reason(row["state"])} for row in rows]


def decisions(connection: Connection, release_id: str, heartbeats: bool) -> list[dict[str, Any]]:
    """A release's decisions, oldest first."""
    query = sa.select(schema.decisions).where(schema.decisions.c.release_id == release_id)
    if not heartbeats:
        query = query.where(schema.decisions.c.kind == "decision")
    return [dict(row) for row in connection.execute(query.order_by(schema.decisions.c.id)).mappings()]


def command(connection: Connection, release_id: str) -> Command | None:
    """The newest thing that was asked of a release; a rollback outranks a cancel."""
    table = schema.commands
    query = sa.select(table).where(table.c.release_id == release_id).order_by(table.c.kind.desc(), table.c.id.desc())
    row = first(connection, query)
    if row is None:
        return None
    asked = {n: row[n] for n in ("id", "kind", "by", "reason", "target")}
    return Command.model_validate({**asked, "quarantine": row["quarantine"] is not False})


def approval(connection: Connection, release_id: str, stage_index: int) -> Approval | None:
    """The newest decision of a person on a stage."""
    table = schema.approvals
    query = sa.select(table).where((table.c.release_id == release_id) & (table.c.stage_index == stage_index))
    row = first(connection, query.order_by(table.c.id.desc()))
    return Approval.model_validate({n: row[n] for n in ("stage_index", "approved", "by", "reason")}) if row else None


def route(connection: Connection, environment: str, name: str) -> RouteRow | None:
    """A route's pointers."""
    table = schema.routes
    row = first(connection, sa.select(table).where((table.c.environment == environment) & (table.c.route == name)))
    return RouteRow.model_validate({n: row[n] for n in ("base", "live", "previous")}) if row else None


def bundle(connection: Connection, digest: str) -> Bundle | None:
    """A manifest."""
    row = first(connection, sa.select(schema.bundles).where(schema.bundles.c.digest == digest))
    return Bundle.model_validate(row["manifest"]) if row else None


def bundles_since(connection: Connection) -> dict[str, float]:
    """By digest, when each manifest came in, in UNIX seconds."""
    table = schema.bundles
    rows = connection.execute(sa.select(table.c.digest, table.c.first_seen_at)).all()
    return {str(row.digest): float(row.first_seen_at) for row in rows}


def gate(connection: Connection, digest: str) -> GateDecision | None:
    """What the eval gate last said of a bundle."""
    table = schema.builds
    row = first(connection, sa.select(table).where(table.c.bundle == digest).order_by(table.c.id.desc()))
    return GateDecision.model_validate(row["gate"]) if row else None


def last_refresh(connection: Connection, environment: str, route: str) -> LastRefresh | None:
    """The newest refresh of a route that came to its end."""
    found = next(_refreshes(connection, environment, route, ("refreshed",)), None)
    return LastRefresh(inputs=found[1]["inputs"], at=found[0]["at"]) if found else None


def refresh_said(connection: Connection, environment: str, route: str) -> RefreshSaid | None:
    """What the newest refresh of a route said; none of those that were noted before they said anything."""
    for row, noted in _refreshes(connection, environment, route, ("refreshed", "refresh_looked")):
        if noted.get("said"):
            return RefreshSaid(said=noted["said"], by=row["who"], at=row["at"], ended=noted.get("ended", True))
    return None


def _refreshes(
    connection: Connection, environment: str, route: str, kinds: Sequence[AuditEvent]
) -> Iterator[tuple[RowMapping, dict[str, Any]]]:
    table = schema.events
    own = (table.c.environment == environment) & table.c.kind.in_(kinds)
    query = sa.select(table.c.text, table.c.who, table.c.at).where(own).order_by(table.c.id.desc())
    for row in connection.execute(query).mappings():
        noted = json.loads(row["text"])
        if noted["route"] == route:
            yield row, noted


def newest_table(connection: Connection, environment: str) -> RoutingTable | None:
    """The table with the highest revision."""
    table = schema.routing_revisions
    newest = sa.select(table).where(table.c.environment == environment).order_by(table.c.revision.desc())
    row = first(connection, newest)
    return RoutingTable.model_validate(row["table"]) if row else None


def quarantined(connection: Connection, digest: str) -> str:
    """Why a bundle must not be released; empty when it may."""
    table = schema.quarantine
    row = first(connection, sa.select(table).where(table.c.bundle == digest).order_by(table.c.id.desc()))
    return str(row["reason"]) if row and not row["lifted"] else ""


def lines(connection: Connection) -> Iterator[str]:
    """Every row of every table as a line of JSON, tables in the order in which they refer to each other."""
    for table in schema.metadata.sorted_tables:
        order = list(table.primary_key.columns)
        for row in connection.execute(sa.select(table).order_by(*order)).mappings():
            said = {n: v for n, v in row.items() if n != "content"} if table.name in schema.PERSONAL else dict(row)
            yield json.dumps({"table": table.name, "row": said}, ensure_ascii=False)


def _of_route(environment: str, name: str | None) -> sa.Select[Any]:
    query = sa.select(schema.releases).where(schema.releases.c.environment == environment)
    if name is not None:
        query = query.where(schema.releases.c.route == name)
    return query.order_by(schema.releases.c.started_at.desc(), schema.releases.c.id.desc())


def _reason(state: dict[str, Any]) -> str:
    return str((state.get("rollback") or {}).get("reason") or state.get("reason") or "")
