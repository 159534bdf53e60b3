"""Opens the ledger's database: migrated, and with the settings that several processes on several machines need."""

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from delivery.clients.ledger.errors import LedgerError, shown
from delivery.clients.ledger.schema import HEAD

UNWRITABLE = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
MIGRATION_LOCK = 737  # of PostgreSQL's advisory locks: one process migrates, the others wait


def open_engine(url: str, busy_timeout_s: float) -> Engine:
    """An engine on a ledger of the newest schema. Raises LedgerError, sqlalchemy's errors and OSError.

    `busy_timeout_s`: how long a call waits for locks, and in PostgreSQL's case for a connection; a controller must
    not hang, or a rollback hangs with it.
    """
    parsed = sa.make_url(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": busy_timeout_s})
        sa.event.listen(engine, "do_connect", _connect_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    elif kind in ("postgresql", "postgres"):
        engine = _postgres(parsed, busy_timeout_s)
    else:
        raise LedgerError(
            f"a ledger is SQLite or PostgreSQL, found {kind}",
            where=shown(url),
            cure="sqlite:////folder/ledger.sqlite, or postgresql://user@host/database",
        )
    try:
        _bring_up_to_date(engine, url)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _postgres(url: URL, busy_timeout_s: float) -> Engine:
    lock_ms = max(1, round(1000 * busy_timeout_s))
    settings = f"-c lock_timeout={lock_ms} -c statement_timeout={10 * lock_ms}"
    settings += f" -c idle_in_transaction_session_timeout={10 * lock_ms}"  # of a controller that was stopped in one
    arguments = {
        "connect_timeout": max(2, round(busy_timeout_s)),
        "tcp_user_timeout": 10 * lock_ms,
        "options": settings,
        "application_name": "slipway",
    }
    return sa.create_engine(url.set(drivername="postgresql+psycopg"), connect_args=arguments, pool_pre_ping=True)


def _connect_sqlite(_: Any, record: Any, arguments: list[Any], parameters: dict[str, Any]) -> sqlite3.Connection:
    """A connection; one that only reads where the disk is full or read-only, so that a rollback knows where to go.

    SQLite cannot even read then, for want of room for the index of its log. Without a log nobody writes, and the file
    alone is the whole truth.
    """
    connection: sqlite3.Connection = sqlite3.connect(*arguments, **parameters)
    try:
        connection.isolation_level = None  # the driver's own implicit BEGIN would be a deferred one
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.OperationalError as error:
        connection.close()
        file, log = Path(arguments[0]), Path(f"{arguments[0]}-wal")
        has_log = log.is_file() and log.stat().st_size > 0
        if error.sqlite_errorcode & 0xFF not in UNWRITABLE or has_log or not file.is_file():
            raise
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True, **parameters)
        connection.isolation_level = None
    return connection


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at once: a reader that turns writer in the middle would fail instead of waiting.
    writes = connection.get_execution_options().get("slipway_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _bring_up_to_date(engine: Engine, url: str) -> None:
    found = _version(engine)
    if found is not None and found > HEAD:
        raise LedgerError(
            f"the ledger has schema {found}, this Slipway knows up to {HEAD}",
            where=shown(url),
            cure="use the newer Slipway that migrated it; a ledger never goes back",
        )
    if found != HEAD:
        _migrate(engine)


def _version(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _migrate(engine: Engine) -> None:
    from alembic import command  # only when there is something to migrate: it takes a while to import
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect() as bare:
        connection = bare.execution_options(slipway_writes=True)
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
                connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
