"""What a reviewer does, as plain functions: the command line calls them, and a web page can do the same.

Every function takes the desk and the person; `now` is UNIX seconds. They raise LedgerError with the reason where a
person may not do what they ask for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.dataset import DatasetRecipe
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.project import Project
from configs.review import Review
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.ledger.review import Queue
from delivery.review.agreement import Agreement, agreement
from delivery.review.items import Item, ItemOrigin, Status
from delivery.review.rows import RowKind, rows_of
from delivery.review.rules import why_no_reviewer
from tasks.release.site import open_ledger


@dataclass(frozen=True)
class Desk:
    """One route's queue, and the recipe's rules for it."""

    ledger: Ledger
    queue: Queue
    rules: Review


@dataclass(frozen=True)
class Overview:
    """The queue at a glance."""

    counts: dict[Status, dict[ItemOrigin, int]]
    items: list[Item]
    agreement: Agreement
    newly_approved: int  # no dataset version has read them yet


@contextmanager
def open_desk(project: Project, home: Path) -> Iterator[Desk]:
    """The desk of a project; its ledger is closed afterwards."""
    with desk_of(project.environment, project.route, project.dataset, home) as desk:
        yield desk


@contextmanager
def desk_of(environment: Environment, route: str, recipe: DatasetRecipe, home: Path) -> Iterator[Desk]:
    """The same, from the parts of a project that it needs."""
    ledger = open_ledger(environment, home)
    try:
        yield Desk(ledger, Queue(environment=environment.name, route=route), recipe.review)
    finally:
        ledger.close()


def overview(desk: Desk, status: Status | None = None, origin: ItemOrigin | None = None, limit: int = 20) -> Overview:
    """Counts, the first items, and how far two people agree."""
    review, queue = desk.ledger.review, desk.queue
    return Overview(
        counts=review.counts(queue),
        items=review.items(queue, status, origin, limit),
        agreement=agreement(review.verdict_pairs(queue)),
        newly_approved=review.newly_approved(queue),
    )


def take(desk: Desk, person: str, now: float, item_id: str | None = None) -> Item | None:
    """Gives a person an item to work on, which is theirs alone for a while. None: nothing waits for them.

    Raises SlipwayError for somebody who does not review here.
    """
    refused = why_no_reviewer(person, desk.rules)
    if refused:
        raise SlipwayError(refused, where="dataset.yaml: review.people", cure="give one of these names: --by NAME")
    return desk.ledger.review.take(desk.queue, person, desk.rules, now, item_id)


def give_back(desk: Desk, person: str, item_id: str, now: float) -> None:
    """Lets others take an item that this person does not want to decide."""
    desk.ledger.review.give_back(desk.queue, person, item_id, desk.rules, now)


def approve(desk: Desk, person: str, item_id: str, reason: str, now: float, label: str = "") -> Item:
    """The answer as it is now is good to learn from."""
    return desk.ledger.review.judge(desk.queue, person, item_id, True, reason, desk.rules, now, label)


def reject(desk: Desk, person: str, item_id: str, reason: str, now: float, label: str = "") -> Item:
    """Nothing is to be learned from this item."""
    return desk.ledger.review.judge(desk.queue, person, item_id, False, reason, desk.rules, now, label)


def rewrite(desk: Desk, person: str, item_id: str, answer: str, reason: str, now: float) -> Item:
    """Says what should have been answered. It is then to be approved, as the answer before it was."""
    return desk.ledger.review.rewrite(desk.queue, person, item_id, answer, reason, desk.rules, now)


def take_other(desk: Desk, person: str, item_id: str, reason: str, now: float) -> Item:
    """The rewrite is what the candidate answered in shadow (or what the eval suite expects)."""
    other = desk.ledger.review.item(desk.queue, item_id).asked
    if other is None or other.other is None:
        raise SlipwayError(
            f"item {item_id} has no other answer", cure="write one: slipway review rewrite --answer TEXT"
        )
    return rewrite(desk, person, item_id, other.other, reason, now)


def label(desk: Desk, person: str, item_id: str, word: str, reason: str, now: float) -> Item:
    """Says in a word what an item is about."""
    return desk.ledger.review.label(desk.queue, person, item_id, word, reason, desk.rules, now)


def history(desk: Desk, item_id: str) -> list[dict[str, Any]]:
    """Who did what with an item, oldest first."""
    return desk.ledger.review.acts(desk.queue, item_id)


def export(desk: Desk, kind: RowKind) -> Iterator[dict[str, Any]]:
    """The rows that a dataset version would read now, each with who answers for it."""
    for _, row in rows_of(desk.ledger.review.approved(desk.queue), kind):
        yield row


def erase(desk: Desk, by: str, reason: str, now: float, ids: Sequence[str] = (), user: str | None = None) -> list[Item]:
    """Takes the texts of these items, or of all of a user's, away; the digests stay. Returns them without texts.

    `Item.dataset` names the first dataset version that had read an item before.
    """
    if not ids and not user:
        raise SlipwayError("nothing is named that is to be erased", cure="name items, or a user's pseudonym")
    for item_id in ids:
        desk.ledger.review.item(desk.queue, item_id)  # one that is not there is told before anything is erased
    return desk.ledger.review.erase(desk.queue, by, reason, now, ids=ids, user=user)
