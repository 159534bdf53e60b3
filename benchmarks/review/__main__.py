"""`python -m benchmarks.review --items 100000 --json PATH`: how long a reviewer waits in a long queue, in SQLite.

Two people review: the first one judges a tenth of the items before anything is measured, so that the queue holds many
items that do not wait for them. Every figure is in milliseconds of processor time of this one process; what the disk
takes to keep a decision comes on top.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from configs.review import Review
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.ledger.review import Queue
from delivery.clients.ledger.schema import review_items
from delivery.review.items import ORIGINS, AskedAndAnswered, ItemDraft
from delivery.review.rows import rows_of

QUEUE, RULES = Queue(environment="local", route="tutor"), Review(reviewers=2)
TRIES = 200


def made_up(items: int) -> Iterator[ItemDraft]:
    """Questions of a few dozen words, of all origins."""
    for number in range(items):
        question = f"Question {number}: " + "why does this come out as it does? " * 8
        asked = AskedAndAnswered(messages=({"role": "user", "content": question},), answer="Because it does. " * 12)
        origin = ORIGINS[number % len(ORIGINS)]
        yield ItemDraft(
            origin=origin, why="made up", asked=asked, request_id=f"q{number}", user=f"u{number % 997}", at=0
        )


def timed(do: Callable[[], Any]) -> float:
    """Milliseconds."""
    began = time.process_time()
    do()
    return 1000 * (time.process_time() - began)


def measure(items: int, folder: Path) -> dict[str, float]:
    """Milliseconds by what was done."""
    ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
    review = ledger.review
    found: dict[str, float] = {"collect all": timed(lambda: review.add(QUEUE, list(made_up(items)), "ann", 0))}
    found["collect all again"] = timed(lambda: review.add(QUEUE, list(made_up(items)), "ann", 0))
    with sa.create_engine(ledger.url).begin() as anyone:
        judged = {"verdicts": [{"by": "ann", "approved": True}], "judged_keys": "\nann\n"}
        anyone.execute(sa.update(review_items).where(review_items.c.seq <= items // 10).values(**judged))
    takes, judges = [], []
    for _ in range(TRIES):
        takes.append(timed(lambda: review.take(QUEUE, "ann", RULES, 0)))
        one = review.take(QUEUE, "ann", RULES, 0)
        if one is None:
            raise RuntimeError("the queue has fewer items than are tried")
        judges.append(timed(partial(review.judge, QUEUE, "ann", one.id, True, "fine", RULES, 0)))
    found |= {"next, median": median(takes), "next, longest": max(takes)}
    found |= {"approve, median": median(judges), "approve, longest": max(judges)}
    found["list"] = timed(lambda: (review.counts(QUEUE), review.items(QUEUE, "open")))
    found["newly approved"] = timed(lambda: review.newly_approved(QUEUE))
    with sa.create_engine(ledger.url).begin() as anyone:
        anyone.execute(sa.update(review_items).values(status="approved"))
    found["export all"] = timed(lambda: list(rows_of(review.approved(QUEUE), "conversations")))
    found["erase one user's"] = timed(lambda: review.erase(QUEUE, "ann", "asked", 0, user="u5"))
    return {name: round(value, 1) for name, value in found.items()}


def main(
    items: Annotated[int, typer.Option(min=100)] = 100_000,
    json_path: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
) -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        found = measure(items, Path(folder))
    for name, value in found.items():
        typer.echo(f"{name:20} {value:>10,.1f} ms")
    if json_path is not None:
        json_path.write_text(json.dumps({"items": items, "ms": found}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
