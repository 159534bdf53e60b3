"""The ledger's tables. What is written about a decision is never changed; only pointers and states move on.

The database refuses to change or delete what happened: triggers of migration 0002 guard all but `releases`, `routes`
and `leases`, which are pointers. Of `outbox` only how its delivery goes moves on, of `review_items` how far people have
come, and a text in `review_texts` can be forgotten, never rewritten; none of their rows is ever deleted.
"""

from typing import Any

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table
from sqlalchemy import Text as AnyText
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.types import TypeDecorator

HEAD = "0006"  # the newest migration; a test compares it and these tables with the migrations


class Text(TypeDecorator[str]):
    """Text of foreign programs: PostgreSQL refuses the NUL that some of them print."""

    impl = AnyText
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """What is stored."""
        return None if value is None else value.replace("\0", "\ufffd")


metadata = MetaData()

bundles = Table(
    "bundles",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("manifest", JSON, nullable=False),
    Column("first_seen_at", Float, nullable=False),
)

builds = Table(
    "builds",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("bundle", String(80), ForeignKey("bundles.digest"), nullable=False, index=True),
    Column("gate", JSON, nullable=False),  # the eval gate's findings; the newest row of a bundle counts
    Column("at", Float, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("id", String(120), primary_key=True),
    Column("environment", String(80), nullable=False),
    Column("route", String(120), nullable=False),
    Column("bundle", String(80), ForeignKey("bundles.digest"), nullable=False),
    Column("phase", String(20), nullable=False),
    Column("plan", JSON, nullable=False),
    Column("state", JSON, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("releases_of_route", "environment", "route", "started_at"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("release_id", String(120), ForeignKey("releases.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("kind", String(20), nullable=False),  # decision, heartbeat
    Column("phase", String(20), nullable=False),
    Column("stage_index", Integer, nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("results", JSON, nullable=False),  # every compared value
    Column("counts", JSON, nullable=False),
    Column("actions", JSON, nullable=False),
    Column("who", String(200), nullable=False),
)

applied = Table(
    "applied",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("decision_id", Integer, ForeignKey("decisions.id"), nullable=False, index=True),
    Column("action_index", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("error", Text, nullable=False),  # empty: it worked
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("release_id", String(120), ForeignKey("releases.id"), nullable=False, index=True),
    Column("stage_index", Integer, nullable=False),
    Column("approved", Boolean, nullable=False),
    Column("by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)

commands = Table(
    "commands",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("release_id", String(120), ForeignKey("releases.id"), nullable=False, index=True),
    Column("kind", String(20), nullable=False),  # rollback, cancel
    Column("by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("target", JSON, nullable=True),
    Column("quarantine", Boolean, nullable=True),  # of a rollback: whether the bundle is ruled out; null: it is
    Column("at", Float, nullable=False),
)

routing_revisions = Table(
    "routing_revisions",
    metadata,
    Column("environment", String(80), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("table", JSON, nullable=False),
    Column("release_id", String(120), nullable=True),
    Column("why", Text, nullable=False),
    Column("at", Float, nullable=False),
)

routes = Table(
    "routes",
    metadata,
    Column("environment", String(80), primary_key=True),
    Column("route", String(120), primary_key=True),
    Column("base", JSON, nullable=False),  # what a rollback to the base serves
    Column("live", JSON, nullable=False),
    Column("previous", JSON, nullable=True),
    Column("updated_at", Float, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("bundle", String(80), nullable=False, index=True),
    Column("lifted", Boolean, nullable=False),  # the newest row of a bundle counts
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("at", Float, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("environment", String(80), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("expires_at", Float, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("environment", String(80), nullable=False),
    Column("release_id", String(120), nullable=True, index=True),
    Column("kind", String(40), nullable=False),  # what no other table tells of: see ledger_writes.Event
    Column("who", String(200), nullable=False),
    Column("text", Text, nullable=False),
    Column("at", Float, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("environment", String(80), primary_key=True),
    Column("receiver", String(40), primary_key=True),
    Column("key", String(250), primary_key=True),  # of the message: it is told once
    Column("message", JSON, nullable=False),
    Column("at", Float, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_try_at", Float, nullable=False),
    Column("delivered_at", Float, nullable=True),  # null: it waits
    Column("error", Text, nullable=False),  # of the last try
    Index("outbox_waiting", "environment", "delivered_at"),
)

review_items = Table(
    "review_items",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("environment", String(80), nullable=False),
    Column("route", String(120), nullable=False),
    Column("id", String(40), nullable=False),
    Column("origin", String(20), nullable=False),
    Column("rank", Integer, nullable=False),  # of the origin: smaller is looked at first
    Column("why", Text, nullable=False),
    Column("request_id", String(120), nullable=False),
    Column("user", String(200), nullable=False),  # a pseudonym
    Column("bundle", String(80), nullable=False),
    Column("at", Float, nullable=False),  # when it was said
    Column("added_at", Float, nullable=False),
    Column("status", String(12), nullable=False),
    Column("version", Integer, nullable=False),  # of the text
    Column("rewritten_by", String(200), nullable=True),
    Column("wrote_key", String(200), nullable=False),  # keys of people tell spellings of one name apart from two names
    Column("label", String(100), nullable=False),
    Column("verdicts", JSON, nullable=False),  # on this version
    Column("judged_keys", Text, nullable=False),  # of those who gave them, each between two line ends
    Column("lease_owner", String(200), nullable=False),
    Column("lease_key", String(200), nullable=False),
    Column("lease_until", Float, nullable=False),
    Column("dataset", String(80), nullable=True),  # the first version that read it
    Unique("environment", "route", "id", name="review_one_of_an_id"),
    Index("review_next", "environment", "route", "status", "rank", "seq"),
    Index("review_in_hand", "environment", "route", "lease_key"),
    Index("review_of_user", "environment", "route", "user"),
)

review_texts = Table(
    "review_texts",
    metadata,
    Column("item", Integer, ForeignKey("review_items.seq"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),  # 0: as it came
    Column("content", JSON(none_as_null=True), nullable=True),  # null: erased
    Column("digest", String(80), nullable=False),
    Column("by", String(200), nullable=False),
    Column("at", Float, nullable=False),
)

review_acts = Table(
    "review_acts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("item", Integer, ForeignKey("review_items.seq"), nullable=False, index=True),
    Column("kind", String(12), nullable=False),  # label, rewrite, approve, reject, erase
    Column("version", Integer, nullable=False),  # of the text that was judged, or that a rewrite made
    Column("by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("label", String(100), nullable=False),
    Column("at", Float, nullable=False),
)

chain = Table(
    "chain",  # made in the order of the transactions; see chain.py
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("table", String(40), nullable=False),
    Column("key", String(200), nullable=False),  # the row's, its parts joined by a slash
    Column("row", String(80), nullable=False),  # the row's digest
    Column("hash", String(80), nullable=False),  # of this link and the hash of the one before
)

PERSONAL = frozenset({"review_texts"})
"""Tables whose `content` is what people said: `slipway export` leaves it out, so that the audit can be handed on."""
