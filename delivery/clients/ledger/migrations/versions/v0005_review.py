"""The review queue: items, what they say, and what people did with them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Creates its tables. Of an item it moves on how far people have come; a text can be forgotten, never rewritten."""
    _items()
    _texts_and_acts()
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgres()


def _items() -> None:
    op.create_table(
        "review_items",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("environment", sa.String(80), nullable=False),
        sa.Column("route", sa.String(120), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("origin", sa.String(20), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("request_id", sa.String(120), nullable=False),
        sa.Column("user", sa.String(200), nullable=False),
        sa.Column("bundle", sa.String(80), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("added_at", sa.Float(), nullable=False),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rewritten_by", sa.String(200), nullable=True),
        sa.Column("wrote_key", sa.String(200), nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("verdicts", sa.JSON(), nullable=False),
        sa.Column("judged_keys", sa.Text(), nullable=False),
        sa.Column("lease_owner", sa.String(200), nullable=False),
        sa.Column("lease_key", sa.String(200), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("dataset", sa.String(80), nullable=True),
        sa.UniqueConstraint("environment", "route", "id", name="review_one_of_an_id"),
    )
    op.create_index("review_next", "review_items", ["environment", "route", "status", "rank", "seq"])
    op.create_index("review_in_hand", "review_items", ["environment", "route", "lease_key"])
    op.create_index("review_of_user", "review_items", ["environment", "route", "user"])


def _texts_and_acts() -> None:
    item = ("item", sa.Integer(), sa.ForeignKey("review_items.seq"))
    op.create_table(
        "review_texts",
        sa.Column(*item, primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("content", sa.JSON(), nullable=True),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
    )
    op.create_table(
        "review_acts",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("item", sa.Integer(), sa.ForeignKey("review_items.seq"), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
    )
    op.create_index("ix_review_acts_item", "review_acts", ["item"])


ALL = ("review_items", "review_texts", "review_acts")


def _guard_sqlite() -> None:
    for what, table in (*(("DELETE", table) for table in ALL), ("UPDATE", "review_acts")):
        op.execute(
            f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
    op.execute(
        "CREATE TRIGGER review_texts_only_forgotten BEFORE UPDATE ON review_texts WHEN NEW.content IS NOT NULL "
        "OR NEW.digest <> OLD.digest OR NEW.item <> OLD.item OR NEW.version <> OLD.version OR NEW.by <> OLD.by "
        "BEGIN SELECT RAISE(ABORT, 'review_texts is append-only'); END"
    )


def _guard_postgres() -> None:
    kinds = (("DELETE", "ROW"), ("TRUNCATE", "STATEMENT"))
    guards = [(what, table, each) for what, each in kinds for table in ALL]
    for what, table, each in (*guards, ("UPDATE", "review_acts", "ROW")):
        op.execute(
            f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} "
            f"FOR EACH {each} EXECUTE FUNCTION slipway_append_only()"
        )
    op.execute(
        "CREATE TRIGGER review_texts_only_forgotten BEFORE UPDATE ON review_texts FOR EACH ROW WHEN "
        "(NEW.content IS NOT NULL OR NEW.digest <> OLD.digest OR NEW.item <> OLD.item OR NEW.version <> OLD.version "
        "OR NEW.by <> OLD.by) EXECUTE FUNCTION slipway_append_only()"
    )


def downgrade() -> None:
    """A ledger never goes back; keep a copy of it instead."""
    raise NotImplementedError("a ledger's schema only goes forward")
