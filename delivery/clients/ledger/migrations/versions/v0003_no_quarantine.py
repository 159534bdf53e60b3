"""A person may take a release back without ruling its bundle out."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Commands say whether the bundle goes into quarantine; those before did not ask, and it went there."""
    op.add_column("commands", sa.Column("quarantine", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """A ledger never goes back; keep a copy of it instead."""
    raise NotImplementedError("a ledger's schema only goes forward")
