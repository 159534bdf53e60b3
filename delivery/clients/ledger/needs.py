"""Which bundles a ledger needs, of all environments in it: what is live, what may be gone back to, what is judged."""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from configs.routing import RoutingTable
from delivery.clients.ledger import schema as schema
from delivery.clients.ledger.reads import newest_table, quarantined, release_that_made_live, route
from delivery.release.state import TERMINAL, Command, ReleaseState


def needs(connection: Connection) -> list[tuple[str, str]]:
    """Digest and reason; one bundle may be needed for several reasons, and the first says most."""
    return [*_of_routes(connection), *_under_way(connection), *_of_tables(connection), *_evidence(connection)]


def _of_routes(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(sa.select(schema.routes.c.environment, schema.routes.c.route)).all():
        found, where = route(connection, row.environment, row.route), f"of {row.route} in {row.environment}"
        if found is None:
            continue
        yield found.live.bundle, f"live {where}"
        made = release_that_made_live(connection, row.environment, row.route, found.live.bundle)
        if made is not None:
            yield made.stable.bundle, f"what a rollback {where} goes back to"
        if found.previous is not None:
            yield found.previous.bundle, f"previous {where}"
        yield found.base.bundle, f"the base {where}"


def _under_way(connection: Connection) -> Iterator[tuple[str, str]]:
    table = schema.releases
    under_way = sa.select(table.c.state).where(table.c.phase.not_in(sorted(TERMINAL)))
    for found in connection.execute(under_way).scalars().all():
        state = ReleaseState.model_validate(found)
        yield state.candidate.bundle, f"candidate of release {state.release_id}, which is under way"
        yield state.stable.bundle, f"stable of release {state.release_id}, which is under way"
    asked = sa.select(schema.commands).where(schema.commands.c.target.is_not(None))
    for row in connection.execute(asked).mappings().all():
        wanted = {name: row[name] for name in ("id", "kind", "by", "reason", "target")}
        target = Command.model_validate(wanted).target
        if target is not None and not _is_over(connection, row["release_id"]):
            yield target.bundle, f"what a command on release {row['release_id']} goes back to"


def _is_over(connection: Connection, release_id: str) -> bool:
    phase = connection.execute(sa.select(schema.releases.c.phase).where(schema.releases.c.id == release_id)).scalar()
    return phase in ("rolled_back", "refused")


def _of_tables(connection: Connection) -> Iterator[tuple[str, str]]:
    for name in connection.execute(sa.select(schema.routing_revisions.c.environment).distinct()).scalars().all():
        table: RoutingTable | None = newest_table(connection, name)
        for served in table.routes.values() if table is not None else ():
            for variant in served.variants.values():
                if variant.bundle:
                    yield variant.bundle, f"in the newest routing table of {name}"


def _evidence(connection: Connection) -> Iterator[tuple[str, str]]:
    for digest in connection.execute(sa.select(schema.quarantine.c.bundle).distinct()).scalars().all():
        if quarantined(connection, digest):
            yield digest, "quarantined: it is the evidence"
