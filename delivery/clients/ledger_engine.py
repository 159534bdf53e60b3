"""Opens the ledger's database: migrated, and in SQLite's case with the settings that several processes need."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from delivery.clients.ledger_schema import HEAD


def open_engine(url: str, busy_timeout_s: float) -> Engine:
    """An engine on a ledger of the newest schema. Raises sqlalchemy's errors."""
    parsed = sa.make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(parsed, connect_args={"timeout": busy_timeout_s} if is_sqlite else {})
    if is_sqlite:
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    if _version(engine) != HEAD:
        _migrate(engine)
    return engine


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver's own implicit BEGIN would be a deferred one
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at once: a reader that turns writer in the middle would fail instead of waiting.
    writes = connection.get_execution_options().get("slipway_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


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
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(737)"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
