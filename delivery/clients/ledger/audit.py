"""Who did what and when, as it is read back: events, approvals, requests, tables, quarantine, new decisions.

Of a whole environment it reads the columns that are wanted and no more, since a ledger grows for years.
"""

from typing import Any

import sqlalchemy as sa

from delivery.clients.ledger import schema as schema
from delivery.clients.ledger.errors import named
from delivery.clients.ledger.writes import Transaction, first, note

Row = dict[str, Any]


class Audit:
    """Of one ledger. Raises LedgerError."""

    def __init__(self, write: Transaction, read: Transaction):
        self._write = write
        self._read = read

    def asked(self, environment: str, by: str, text: str, now: float, release_id: str | None = None) -> None:
        """A named person asked for something that no other row tells of: a build, a watch, a refresh, a release."""
        named(by, text)
        with self._write() as connection:
            note(connection, environment, "asked_for", by, text, now, release_id)

    def routes(self, environment: str) -> list[str]:
        """The names of every route that was ever served there."""
        table = schema.routes
        query = sa.select(table.c.route).where(table.c.environment == environment).order_by(table.c.route)
        with self._read() as connection:
            return [str(name) for name in connection.execute(query).scalars()]

    def events(self, environment: str, limit: int = 100) -> list[Row]:
        """Newest first: at, kind, who, text, release_id."""
        table = schema.events
        query = sa.select(table).where(table.c.environment == environment).order_by(table.c.id.desc()).limit(limit)
        return self._rows(query)

    def of_release(self, release_id: str) -> dict[str, list[Row]]:
        """What people asked for and answered, and what happened: events, approvals, commands; oldest first."""
        tables = (schema.events, schema.approvals, schema.commands)
        queries = [sa.select(table).where(table.c.release_id == release_id).order_by(table.c.id) for table in tables]
        return {table.name: self._rows(query) for table, query in zip(tables, queries, strict=True)}

    def release(self, release_id: str) -> Row | None:
        """A release's row: environment, route, bundle, phase, plan, state, started_at, updated_at."""
        table = schema.releases
        with self._read() as connection:
            row = first(connection, sa.select(table).where(table.c.id == release_id))
            return dict(row) if row is not None else None

    def decisions_after(self, release_id: str, number: int, limit: int = 2000) -> list[Row]:
        """Decisions and heartbeats that came after this one, oldest first; the last `limit` of them."""
        table = schema.decisions
        query = sa.select(table).where((table.c.release_id == release_id) & (table.c.id > number))
        return self._rows(query.order_by(table.c.id.desc()).limit(limit))[::-1]

    def stables(self, environment: str, route: str, limit: int = 5000) -> list[Row]:
        """A route's stable variant in each table, newest first: revision, at, release_id, why, stable, bundle."""
        table = schema.routing_revisions
        whole = table.c["table"]["routes"][route]
        query = (
            sa.select(table.c.revision, table.c.at, table.c.release_id, table.c.why, whole["stable"].as_string())
            .where(table.c.environment == environment)
            .order_by(table.c.revision.desc())
            .limit(limit)
        )
        names = ("revision", "at", "release_id", "why", "stable")
        with self._read() as connection:
            rows = [dict(zip(names, row, strict=True)) for row in connection.execute(query)]
        return [row for row in rows if row["stable"] is not None]

    def table_at(self, environment: str, at: float) -> Row | None:
        """The newest table that was decided by then: revision, table, release_id, why, at."""
        table = schema.routing_revisions
        query = sa.select(table).where((table.c.environment == environment) & (table.c.at <= at))
        with self._read() as connection:
            row = first(connection, query.order_by(table.c.revision.desc()))
            return dict(row) if row is not None else None

    def table(self, environment: str, revision: int) -> Row | None:
        """One table by its revision."""
        rows = schema.routing_revisions
        query = sa.select(rows).where((rows.c.environment == environment) & (rows.c.revision == revision))
        with self._read() as connection:
            row = first(connection, query)
            return dict(row) if row is not None else None

    def quarantined(self, limit: int = 100) -> list[Row]:
        """Bundles that are ruled out now, newest first: bundle, reason, by, at."""
        table = schema.quarantine
        newest = sa.select(sa.func.max(table.c.id)).group_by(table.c.bundle)
        is_out = table.c.id.in_(newest) & table.c.lifted.is_(False)
        return self._rows(sa.select(table).where(is_out).order_by(table.c.id.desc()).limit(limit))

    def quarantine_of(self, bundle: str) -> list[Row]:
        """Every time that a bundle was ruled out or let in again, oldest first."""
        table = schema.quarantine
        return self._rows(sa.select(table).where(table.c.bundle == bundle).order_by(table.c.id))

    def _rows(self, query: sa.Select[Any]) -> list[Row]:
        with self._read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
