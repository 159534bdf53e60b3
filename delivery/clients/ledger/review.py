"""The review queue on the ledger: items are put in, taken by one person at a time, and decided on for good.

Whoever takes an item has a lease on it that ends by itself, so that two people never work on one item and a killed
process leaves nothing behind. Each act is one transaction: it is on record with what it changed, or nothing happened.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from configs.review import Review, person_key
from delivery.clients.ledger.chain import put
from delivery.clients.ledger.errors import LedgerError, named
from delivery.clients.ledger.review_rows import (
    AT_ONCE,
    Queue,
    candidates,
    insert,
    items_of,
    pairs,
    text_row,
    without_texts,
)
from delivery.clients.ledger.schema import review_acts, review_items, review_texts
from delivery.clients.ledger.turns import Turns
from delivery.clients.ledger.writes import Transaction, first
from delivery.review.items import ActKind, Item, ItemDraft, ItemOrigin, Status
from delivery.review.rules import choose, outcome, why_not_act, why_not_judge, why_not_take

ERASED_AT_ONCE = 100  # items of one transaction; each act of it is a link of the ledger's chain
LOOKED_AT = 20  # of the items that a person may be given
LONGEST_LABEL = 100

__all__ = ["Queue", "ReviewItems"]


class ReviewItems:
    """Of one ledger. Raises LedgerError, also for what a person may not do, with the reason. `now`: UNIX seconds."""

    def __init__(self, write: Transaction, read: Transaction):
        self._write = write
        self._read = read

    def add(self, queue: Queue, found: Sequence[ItemDraft], by: str, now: float) -> int:
        """Puts items in that are not there yet; returns how many were new.

        A few hundred are one transaction, so that others have their turn in between. Who is killed leaves whole items
        behind; the same call again adds the others.
        """
        named(by, "collected")
        turns, new = Turns(), 0
        for start in range(0, len(found), AT_ONCE):
            with self._write() as connection:
                new += insert(connection, queue, found[start : start + AT_ONCE], by, now)
                turns.shared = connection.dialect.name != "sqlite"
            turns.done()
        return new

    # -- what is there ----------------------------------------------------------------------------------------------

    def counts(self, queue: Queue) -> dict[Status, dict[ItemOrigin, int]]:
        """How many items have which status and origin."""
        items = review_items.c
        query = sa.select(items.status, items.origin, sa.func.count()).where(queue.where())
        found: dict[Status, dict[ItemOrigin, int]] = {}
        with self._read() as connection:
            for status, origin, count in connection.execute(query.group_by(items.status, items.origin)):
                found.setdefault(status, {})[origin] = count
        return found

    def items(
        self, queue: Queue, status: Status | None = None, origin: ItemOrigin | None = None, limit: int = 20
    ) -> list[Item]:
        """The first items, in the order in which people see them."""
        query = sa.select(review_items).where(queue.where())
        query = query if status is None else query.where(review_items.c.status == status)
        query = query if origin is None else query.where(review_items.c.origin == origin)
        with self._read() as connection:
            rows = connection.execute(query.order_by(review_items.c.rank, review_items.c.seq).limit(limit))
            return items_of(connection, rows.mappings().all())

    def item(self, queue: Queue, item_id: str) -> Item:
        """One item by its id."""
        with self._read() as connection:
            return items_of(connection, [_row(connection, queue, item_id)])[0]

    def approved(self, queue: Queue) -> Iterator[Item]:
        """Every approved item, in the order in which they were put in."""
        yield from self._all(queue, review_items.c.status == "approved")

    def newly_approved(self, queue: Queue) -> int:
        """How many approved items no dataset version has read yet. Those from eval suites, which none reads, do not."""
        items = review_items.c
        fresh = (items.status == "approved") & items.dataset.is_(None) & (items.origin != "eval")
        with self._read() as connection:
            query = sa.select(sa.func.count()).select_from(review_items).where(queue.where() & fresh)
            return int(connection.execute(query).scalar_one())

    def erased_after_read(self, queue: Queue) -> int:
        """How many items were erased that a dataset version has read: what learned from them is to be built again."""
        gone = (review_items.c.status == "erased") & review_items.c.dataset.is_not(None)
        with self._read() as connection:
            query = sa.select(sa.func.count()).select_from(review_items).where(queue.where() & gone)
            return int(connection.execute(query).scalar_one())

    def of_user(self, queue: Queue, user: str) -> list[Item]:
        """What there is of a user and not erased, without what it says."""
        wanted = (review_items.c.user == user) & (review_items.c.status != "erased")
        with self._read() as connection:
            query = sa.select(review_items).where(queue.where() & wanted).order_by(review_items.c.seq)
            return without_texts(connection.execute(query).mappings().all())

    def verdict_pairs(self, queue: Queue) -> list[tuple[bool, bool]]:
        """The first two people's verdicts (approved or not) on each text that two people judged."""
        with self._read() as connection:
            return pairs(connection, queue)

    def acts(self, queue: Queue, item_id: str) -> list[dict[str, Any]]:
        """Who did what with an item, oldest first: kind, version, by, reason, label, at."""
        with self._read() as connection:
            seq = _row(connection, queue, item_id)["seq"]
            query = sa.select(review_acts).where(review_acts.c.item == seq).order_by(review_acts.c.id)
            rows = connection.execute(query).mappings().all()
        return [{name: value for name, value in row.items() if name not in ("id", "item")} for row in rows]

    # -- what people do ---------------------------------------------------------------------------------------------

    def take(self, queue: Queue, person: str, rules: Review, now: float, item_id: str | None = None) -> Item | None:
        """Takes the named item, or what this person does next, for `rules.lease_s`. None: nothing waits for them."""
        named(person, "take")
        with self._write() as connection:
            item = self._chosen(connection, queue, person, rules, now, item_id)
            if item is None:
                return None
            lease: dict[str, Any] = {"lease_owner": person, "lease_key": person_key(person)}
            lease["lease_until"] = now + rules.lease_s
            _update(connection, item, lease)
            return item.model_copy(update={name: lease[name] for name in ("lease_owner", "lease_until")})

    def give_back(self, queue: Queue, person: str, item_id: str, rules: Review, now: float) -> None:
        """Lets others take an item at once that this person took."""
        with self._write() as connection:
            item = _item(connection, queue, item_id)
            _refuse(item, why_not_act(item, person, rules, now))
            _update(connection, item, _FREE)

    def judge(
        self,
        queue: Queue,
        person: str,
        item_id: str,
        approved: bool,
        reason: str,
        rules: Review,
        now: float,
        label: str = "",
    ) -> Item:
        """Approves or rejects the text as it is; returns the item with what came of it."""
        named(person, reason)
        with self._write() as connection:
            item = _item(connection, queue, item_id)
            _refuse(item, why_not_judge(item, person, approved, rules, now))
            verdicts = [*(one.model_dump() for one in item.verdicts), {"by": person, "approved": approved}]
            judged = Item.model_validate(item.model_dump() | {"verdicts": verdicts})
            keys = "\n" + "".join(f"{person_key(one.by)}\n" for one in judged.verdicts)
            status = outcome(judged.verdicts, rules)
            values = {"verdicts": verdicts, "judged_keys": keys, "status": status, **_FREE, **_labelled(label)}
            _update(connection, item, values)
            _note(connection, item, "approve" if approved else "reject", person, reason, now, label)
            return _item(connection, queue, item_id)

    def rewrite(
        self, queue: Queue, person: str, item_id: str, answer: str, reason: str, rules: Review, now: float
    ) -> Item:
        """Puts another answer in the place of what is there; verdicts on the old one no longer count."""
        named(person, reason)
        with self._write() as connection:
            item = _item(connection, queue, item_id)
            _refuse(item, why_not_act(item, person, rules, now))
            if not answer.strip() or answer == item.answer:
                what = "is empty" if not answer.strip() else "is what the answer says already"
                raise LedgerError(f"the rewrite of item {item_id} {what}", cure="write the answer that should be given")
            version = item.version + 1
            connection.execute(
                sa.insert(review_texts).values(text_row(item.place, version, {"answer": answer}, person, now))
            )
            fresh = {"version": version, "rewritten_by": person, "wrote_key": person_key(person)}
            _update(connection, item, {**fresh, "verdicts": [], "judged_keys": "\n", **_FREE})
            _note(connection, item.model_copy(update={"version": version}), "rewrite", person, reason, now)
            return _item(connection, queue, item_id)

    def label(
        self, queue: Queue, person: str, item_id: str, label: str, reason: str, rules: Review, now: float
    ) -> Item:
        """Says in a word what an item is about. Who labels it keeps it."""
        named(person, reason)
        with self._write() as connection:
            item = _item(connection, queue, item_id)
            _refuse(item, why_not_act(item, person, rules, now))
            _update(connection, item, _labelled(label))
            _note(connection, item, "label", person, reason, now, label)
            return _item(connection, queue, item_id)

    # -- what is kept, and what is not ------------------------------------------------------------------------------

    def erase(
        self, queue: Queue, by: str, reason: str, now: float, *, ids: Sequence[str] = (), user: str | None = None
    ) -> list[Item]:
        """Takes the texts of these items, or of all of a user's, out of the ledger; who, why and the digests stay.

        Returns them as they were, without what they said. An erased item is never read by a dataset version again.
        """
        wanted = review_items.c.user == user if user else review_items.c.id.in_(ids)
        return self._erase(queue, wanted, by, reason, now)

    def erase_older(self, queue: Queue, than: float, by: str, now: float) -> list[Item]:
        """Erases what was said before `than` and was not approved."""
        old = (review_items.c.at < than) & review_items.c.status.in_(("open", "rejected"))
        return self._erase(queue, old, by, "older than the recipe keeps texts that nobody approved", now)

    def mark_read(self, queue: Queue, ids: Sequence[str], version: str) -> None:
        """A dataset version has read these items; the first one of an item counts."""
        with self._write() as connection:
            for start in range(0, len(ids), AT_ONCE):
                some = review_items.c.id.in_(ids[start : start + AT_ONCE]) & review_items.c.dataset.is_(None)
                connection.execute(sa.update(review_items).where(queue.where() & some).values(dataset=version))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _chosen(
        self, connection: Connection, queue: Queue, person: str, rules: Review, now: float, item_id: str | None
    ) -> Item | None:
        if item_id is not None:
            item = _item(connection, queue, item_id)
            _refuse(item, why_not_take(item, person, rules, now))
            return item
        for query in candidates(queue, person, rules, now):
            # in PostgreSQL another transaction may be taking the first ones at this very moment
            query = query.limit(LOOKED_AT).with_for_update(skip_locked=True)
            found = choose(items_of(connection, connection.execute(query).mappings().all()), person, rules, now)
            if found:
                return found[0]
        return None

    def _all(self, queue: Queue, wanted: sa.ColumnElement[bool]) -> Iterator[Item]:
        last = 0
        while True:
            query = sa.select(review_items).where(queue.where() & wanted & (review_items.c.seq > last))
            with self._read() as connection:
                rows = connection.execute(query.order_by(review_items.c.seq).limit(AT_ONCE)).mappings().all()
                found = items_of(connection, rows)
            yield from found
            if len(rows) < AT_ONCE:
                return
            last = rows[-1]["seq"]

    def _erase(self, queue: Queue, wanted: sa.ColumnElement[bool], by: str, reason: str, now: float) -> list[Item]:
        named(by, reason)
        turns, gone = Turns(), list[Item]()
        query = sa.select(review_items).where(queue.where() & wanted & (review_items.c.status != "erased"))
        query = query.order_by(review_items.c.seq).limit(ERASED_AT_ONCE)
        while True:
            with self._write() as connection:
                items = _forgotten(connection, query, by, reason, now)
                turns.shared = connection.dialect.name != "sqlite"
            gone += items
            if len(items) < ERASED_AT_ONCE:
                break
            turns.done()
        if gone:
            with self._read() as connection:
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql("COMMIT")  # the log still has the pages as they were
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                    connection.exec_driver_sql("BEGIN")
        return gone


def _forgotten(connection: Connection, query: sa.Select[Any], by: str, reason: str, now: float) -> list[Item]:
    """The texts of the items of a query go; returns the items as they were, without what they said."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")  # what is forgotten is not left in the file
    items = without_texts(connection.execute(query.with_for_update()).mappings().all())
    if items:
        places = [item.place for item in items]
        forgotten = sa.update(review_texts).where(review_texts.c.item.in_(places))
        connection.execute(forgotten.values(content=sa.null()))
        gone = sa.update(review_items).where(review_items.c.seq.in_(places))
        connection.execute(gone.values(status="erased", **_FREE))
        for item in items:
            _note(connection, item, "erase", by, reason, now)
    return items


_FREE = {"lease_owner": "", "lease_key": "", "lease_until": 0.0}


def _row(connection: Connection, queue: Queue, item_id: str, *, locked: bool = False) -> RowMapping:
    query = sa.select(review_items).where(queue.where() & (review_items.c.id == item_id))
    row = first(connection, query.with_for_update() if locked else query)
    if row is None:
        raise LedgerError(
            f"the review queue of {queue.route} in {queue.environment} has no item {item_id}",
            cure="see what it has: slipway review list",
        )
    return row


def _item(connection: Connection, queue: Queue, item_id: str) -> Item:
    """To be changed in this transaction: until it ends nobody else changes it."""
    return items_of(connection, [_row(connection, queue, item_id, locked=True)])[0]


def _refuse(item: Item, reason: str) -> None:
    if reason:
        cure = "take what waits for you: slipway review next"
        if "you have not taken it" in reason:
            cure = f"take it: slipway review next --item {item.id}"
        raise LedgerError(f"item {item.id} is not yours to decide: {reason}", cure=cure)


def _update(connection: Connection, item: Item, values: dict[str, Any]) -> None:
    connection.execute(sa.update(review_items).where(review_items.c.seq == item.place).values(**values))


def _labelled(label: str) -> dict[str, str]:
    if len(label) > LONGEST_LABEL:
        raise LedgerError(f"a label has at most {LONGEST_LABEL} characters, found {len(label)}", cure="shorten it")
    return {"label": label.strip()} if label.strip() else {}


def _note(connection: Connection, item: Item, kind: ActKind, by: str, reason: str, now: float, label: str = "") -> None:
    values = {"item": item.place, "kind": kind, "version": item.version, "by": by, "reason": reason, "label": label}
    put(connection, review_acts, {**values, "at": now})
