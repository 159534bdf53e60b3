"""The hash chain over the rows that only grow."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates it, empty; the first write links what is there already. No link is ever changed or removed."""
    op.create_table(
        "chain",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("table", sa.String(40), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("row", sa.String(80), nullable=False),
        sa.Column("hash", sa.String(80), nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER chain_no_{what.lower()} BEFORE {what} ON chain "
                "BEGIN SELECT RAISE(ABORT, 'chain is append-only'); END"
            )
        return
    for what, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER chain_no_{what.lower()} BEFORE {what} ON chain "
            f"FOR EACH {each} EXECUTE FUNCTION slipway_append_only()"
        )


def downgrade() -> None:
    """A ledger never goes back; keep a copy of it instead."""
    raise NotImplementedError("a ledger's schema only goes forward")
