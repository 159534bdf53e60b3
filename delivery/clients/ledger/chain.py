"""The hash chain over what happened: each row's digest is linked to the link before, so that a change shows.

The database's triggers keep an honest program from changing history; the chain shows what somebody did who went around
them. Links are made at the end of the transaction that wrote their rows. A ledger that is older than the chain gets the
links of its old rows with its first write. Whoever keeps the newest link elsewhere can tell a chain that was shortened,
or made anew.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from configs.canonical import digest_bytes
from delivery.clients.ledger import schema as schema
from delivery.clients.ledger.errors import LedgerError

TABLES = (
    schema.bundles,
    schema.builds,
    schema.decisions,
    schema.applied,
    schema.approvals,
    schema.commands,
    schema.routing_revisions,
    schema.quarantine,
    schema.events,
    schema.review_acts,
)
"""Whose rows are linked: all that only grow. Pointers, the outbox, review items and texts move on or are forgotten."""

FIRST = "sha256:" + "0" * 64  # what the first link follows
LOCK = 738  # of PostgreSQL's advisory locks: one transaction at a time makes links
PUT = "slipway_put"  # the execution option that collects the rows of a transaction


@dataclass(frozen=True)
class ChainReport:
    """What following the chain found. `head`: the digest of its newest link, FIRST without one."""

    rows: int
    head: str
    problems: tuple[str, ...]


def put(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> Any:
    """Inserts a row that is linked when the transaction ends; returns the first part of its primary key."""
    inserted = connection.execute(sa.insert(table).values(**values))
    key = tuple(cast(Any, inserted.inserted_primary_key))
    _put_of(connection).append((table, key))
    return key[0]


def put_once(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Whether a row was inserted, and will be linked; not when its key is there already, maybe since this moment."""
    if not insert_once(connection, table, values):
        return False
    _put_of(connection).append((table, tuple(values[column.name] for column in table.primary_key.columns)))
    return True


def insert_once(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """As `put_once`, of a row that is no part of the chain."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    query = dialect.insert(table).values(**values).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return connection.execute(query).first() is not None


def seal(connection: Connection) -> None:
    """Links the rows that this transaction put. The last thing that it does: others' links wait for its end."""
    made = _put_of(connection)
    if not made:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})
    chain = schema.chain
    newest = connection.execute(sa.select(chain.c.seq, chain.c.hash).order_by(chain.c.seq.desc()).limit(1)).first()
    seq, head = (newest.seq, newest.hash) if newest is not None else (0, FIRST)
    if newest is None:
        rows = ((table, row) for table in TABLES for row in _all(connection, table))
    else:
        rows = ((table, _row(connection, table, key)) for table, key in made)
    links = []
    for table, row in rows:
        seq += 1
        link = {"seq": seq, "table": table.name, "key": _key(table, row), "row": _digest(row)}
        head = _hash(head, link)
        links.append(link | {"hash": head})
    connection.execute(sa.insert(chain), links)
    made.clear()


def follow(lines: Iterable[str], head: str | None = None) -> ChainReport:
    """Follows the chain through a ledger's export. `head`: a link that has to be among the chain's, kept elsewhere.

    Needs the digest of each row in memory, about 200 bytes a row. Raises LedgerError for a line that is no export's.
    """
    tables = {table.name: table for table in TABLES}
    rows: dict[tuple[str, str], str] = {}
    links: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        name, row = _parsed(line, number)
        if name == schema.chain.name:
            links.append(row)
        elif name in tables:
            rows[name, _key(tables[name], row)] = _digest(row)
    if rows and not links:
        problems = ["no row is linked yet: the ledger is older than its chain, and its next write links them all"]
    else:
        problems = [*_broken(links), *_differing(rows, links)]
    hashes = [link["hash"] for link in links] or [FIRST]
    if head is not None and head not in hashes:
        problems.append(f"the chain has no link {head}: it was shortened, or made anew, since that was noted")
    return ChainReport(len(rows), hashes[-1], tuple(problems))


def _broken(links: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    before = FIRST
    for place, link in enumerate(links, start=1):
        if link["seq"] != place or link["hash"] != _hash(before, link):
            what = f"link {link['seq']} ({link['table']} {link['key']})"
            yield f"{what}: it does not follow the one before it; one was changed or removed"
        before = link["hash"]


def _differing(rows: Mapping[tuple[str, str], str], links: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    linked = {(link["table"], link["key"]): link["row"] for link in links}
    for (table, key), digest in linked.items():
        found = rows.get((table, key))
        if found is None:
            yield f"{table} {key}: the row was removed"
        elif found != digest:
            yield f"{table} {key}: the row was changed after it was written"
    yield from (f"{table} {key}: the row is not linked; it was added by hand" for table, key in rows.keys() - linked)


def _parsed(line: str, number: int) -> tuple[str, dict[str, Any]]:
    try:
        found = json.loads(line)
        return found["table"], dict(found["row"])
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            'a line is no {"table": ..., "row": {...}}', where=f"line {number}", cure="give what `slipway export` wrote"
        ) from error


def _put_of(connection: Connection) -> list[tuple[sa.Table, tuple[Any, ...]]]:
    return cast(list[tuple[sa.Table, tuple[Any, ...]]], connection.get_execution_options()[PUT])


def _all(connection: Connection, table: sa.Table) -> list[dict[str, Any]]:
    query = sa.select(table).order_by(*table.primary_key.columns)
    return [dict(row) for row in connection.execute(query).mappings()]


def _row(connection: Connection, table: sa.Table, key: tuple[Any, ...]) -> dict[str, Any]:
    where = [column == value for column, value in zip(table.primary_key.columns, key, strict=True)]
    return dict(connection.execute(sa.select(table).where(*where)).mappings().one())


def _key(table: sa.Table, row: Mapping[str, Any]) -> str:
    return "/".join(str(row[column.name]) for column in table.primary_key.columns)


def _digest(row: Mapping[str, Any]) -> str:
    """Of the row as it is stored. A value that JSON has no word for, as NaN, keeps no decision from the record."""
    return digest_bytes(json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def _hash(previous: str, link: Mapping[str, Any]) -> str:
    said = [previous, link["seq"], link["table"], link["key"], link["row"]]
    return digest_bytes(json.dumps(said, separators=(",", ":")).encode())
