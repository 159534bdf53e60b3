"""Who did what, and no row of what happened ever changes: the database itself refuses it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

APPEND_ONLY = (
    "bundles",
    "builds",
    "decisions",
    "applied",
    "approvals",
    "commands",
    "routing_revisions",
    "quarantine",
    "events",
)
KEPT = (*APPEND_ONLY, "releases")  # a release's state moves on, but none is ever deleted


def upgrade() -> None:
    """Creates the events and the guards."""
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("environment", sa.String(80), nullable=False),
        sa.Column("release_id", sa.String(120), nullable=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
    )
    op.create_index("ix_events_release_id", "events", ["release_id"])
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgres()


def _guard_sqlite() -> None:
    for what, tables in (("UPDATE", APPEND_ONLY), ("DELETE", KEPT)):
        for table in tables:
            op.execute(
                f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def _guard_postgres() -> None:
    op.execute(
        "CREATE FUNCTION slipway_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for what, tables, each in (
        ("UPDATE", APPEND_ONLY, "ROW"),
        ("DELETE", KEPT, "ROW"),
        ("TRUNCATE", KEPT, "STATEMENT"),
    ):
        for table in tables:
            op.execute(
                f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION slipway_append_only()"
            )


def downgrade() -> None:
    """A ledger never goes back; keep a copy of it instead."""
    raise NotImplementedError("a ledger's schema only goes forward")
