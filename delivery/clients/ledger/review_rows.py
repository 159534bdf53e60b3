"""Rows of the review queue's tables, to and from items; every function here runs inside a connection."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping

from configs.review import Review, person_key
from configs.strict import Strict
from delivery.clients.ledger.schema import review_acts, review_items, review_texts
from delivery.review.items import ORIGINS, AskedAndAnswered, Item, ItemDraft, text_digest

AT_ONCE = 500  # rows of one statement
_PLAIN = (
    *("id", "origin", "why", "request_id", "user", "bundle", "at", "added_at", "status", "version", "rewritten_by"),
    *("label", "verdicts", "lease_owner", "lease_until", "dataset"),
)


class Queue(Strict):
    """One route's queue in one environment."""

    environment: str
    route: str

    def where(self) -> sa.ColumnElement[bool]:
        """Its rows."""
        return (review_items.c.environment == self.environment) & (review_items.c.route == self.route)


def items_of(connection: Connection, rows: Sequence[RowMapping]) -> list[Item]:
    """Items with their texts: as they came, and as they are now."""
    versions = {(row["seq"], version) for row in rows for version in (0, row["version"])}
    texts = review_texts
    found: dict[tuple[int, int], Any] = {}
    numbers = sorted({seq for seq, _ in versions})
    for start in range(0, len(numbers), AT_ONCE):
        query = sa.select(texts.c.item, texts.c.version, texts.c.content)
        query = query.where(texts.c.item.in_(numbers[start : start + AT_ONCE]))
        found |= {(one.item, one.version): one.content for one in connection.execute(query)}
    return [_item(row, found) for row in rows]


def without_texts(rows: Sequence[RowMapping]) -> list[Item]:
    """Items without what they said."""
    return [_item(row, {}) for row in rows]


def _item(row: RowMapping, texts: dict[tuple[int, int], Any]) -> Item:
    first, now = texts.get((row["seq"], 0)), texts.get((row["seq"], row["version"]))
    asked = None if first is None else AskedAndAnswered.model_validate(first)
    plain = {name: row[name] for name in _PLAIN}
    return Item.model_validate(
        {**plain, "place": row["seq"], "asked": asked, "answer": None if now is None else now["answer"]}
    )


def candidates(queue: Queue, person: str, rules: Review, now: float) -> Iterator[sa.Select[Any]]:
    """What this person may be given, as `delivery.review.rules.choose` orders it: first what they have in hand."""
    items, key = review_items.c, person_key(person)
    is_open = queue.where() & (items.status == "open")
    in_hand = (items.lease_key == key) & (items.lease_until > now)
    free = (items.lease_until <= now) | (items.lease_key == key)
    others = ~items.judged_keys.contains(f"\n{key}\n", autoescape=True)
    if rules.own_rewrites == "refuse":
        others &= items.wrote_key != key
    for wanted in (is_open & in_hand, is_open & free & others):
        yield sa.select(review_items).where(wanted).order_by(items.rank, items.seq)


def insert(connection: Connection, queue: Queue, found: Sequence[ItemDraft], by: str, now: float) -> int:
    """Puts at most AT_ONCE items in, each once; returns how many are new. One that is known may move forward."""
    batch = {one.id: one for one in sorted(found, key=_rank, reverse=True)}
    known = {row["id"]: row for row in _by_id(connection, queue, list(batch))}
    fresh = [one for item_id, one in batch.items() if item_id not in known]
    _insert_fresh(connection, queue, fresh, by, now)
    for item_id, row in known.items():
        _bring_forward(connection, row, batch[item_id])
    return len(fresh)


def _rank(found: ItemDraft) -> int:
    return ORIGINS.index(found.origin)


def _by_id(connection: Connection, queue: Queue, ids: Sequence[str]) -> Sequence[RowMapping]:
    query = sa.select(review_items).where(queue.where() & review_items.c.id.in_(ids))
    return connection.execute(query).mappings().all()


def _insert_fresh(connection: Connection, queue: Queue, fresh: Sequence[ItemDraft], by: str, now: float) -> None:
    if not fresh:
        return
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(review_items).on_conflict_do_nothing(), [_row(queue, one, now) for one in fresh])
    numbers = {row["id"]: row["seq"] for row in _by_id(connection, queue, [one.id for one in fresh])}
    texts = [text_row(numbers[one.id], 0, one.asked.model_dump(mode="json"), by, now) for one in fresh]
    connection.execute(dialect.insert(review_texts).on_conflict_do_nothing(), texts)


def _row(queue: Queue, one: ItemDraft, now: float) -> dict[str, Any]:
    said = {name: getattr(one, name) for name in ("id", "origin", "why", "request_id", "user", "bundle", "at")}
    nobody: dict[str, Any] = {"rewritten_by": None, "wrote_key": "", "label": "", "verdicts": [], "judged_keys": "\n"}
    free = {"lease_owner": "", "lease_key": "", "lease_until": 0.0, "dataset": None}
    place = {"environment": queue.environment, "route": queue.route, "rank": _rank(one)}
    return {**place, **said, "added_at": now, "status": "open", "version": 0, **nobody, **free}


def text_row(seq: int, version: int, content: dict[str, Any], by: str, now: float) -> dict[str, Any]:
    """A version of an item's text."""
    digest = text_digest(content)
    return {"item": seq, "version": version, "content": content, "digest": digest, "by": by, "at": now}


def _bring_forward(connection: Connection, row: RowMapping, one: ItemDraft) -> None:
    if row["status"] == "open" and _rank(one) < row["rank"]:
        values = {"rank": _rank(one), "origin": one.origin, "why": one.why}
        connection.execute(sa.update(review_items).where(review_items.c.seq == row["seq"]).values(**values))


def pairs(connection: Connection, queue: Queue) -> list[tuple[bool, bool]]:
    """The first two people's verdicts on each version of a text that two people judged."""
    acts = review_acts.c
    query = sa.select(acts.item, acts.version, acts.kind).join(review_items, review_items.c.seq == acts.item)
    query = query.where(queue.where() & acts.kind.in_(("approve", "reject"))).order_by(acts.id)
    said: dict[tuple[int, int], list[bool]] = {}
    for item, version, kind in connection.execute(query):
        said.setdefault((item, version), []).append(kind == "approve")
    return [(both[0], both[1]) for both in said.values() if len(both) > 1]
