"""What is to be told to people is written with what it tells of, and delivered afterwards."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the outbox. How a delivery goes may change; no row is ever deleted."""
    op.create_table(
        "outbox",
        sa.Column("environment", sa.String(80), primary_key=True),
        sa.Column("receiver", sa.String(40), primary_key=True),
        sa.Column("key", sa.String(250), primary_key=True),
        sa.Column("message", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.Float(), nullable=False),
        sa.Column("delivered_at", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
    )
    op.create_index("outbox_waiting", "outbox", ["environment", "delivered_at"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER outbox_no_delete BEFORE DELETE ON outbox "
            "BEGIN SELECT RAISE(ABORT, 'outbox is append-only'); END"
        )
        return
    for what, each in (("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER outbox_no_{what.lower()} BEFORE {what} ON outbox "
            f"FOR EACH {each} EXECUTE FUNCTION slipway_append_only()"
        )


def downgrade() -> None:
    """A ledger never goes back; keep a copy of it instead."""
    raise NotImplementedError("a ledger's schema only goes forward")
