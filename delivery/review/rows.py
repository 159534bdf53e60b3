"""What an approved item becomes: a row of a conversation or a preference pair, with who answers for it."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from delivery.review.items import Item

RowKind = Literal["conversations", "preferences"]
FIELD = "review"  # of a row: who answers for it


def rows_of(items: Iterable[Item], kind: RowKind) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id and row of each item that may be trained on, in the order of the items.

    Only what was approved is a row. Preferences are those that were rewritten: the rewrite is chosen, the answer as it
    came is rejected. What comes from an eval suite is none, for a model is not trained on its own test.
    """
    for item in items:
        if item.status != "approved" or item.origin == "eval" or item.asked is None or item.answer is None:
            continue
        asked, answer = list(item.asked.messages), _said(item.answer)
        if kind == "conversations":
            yield item.id, {"messages": [*asked, answer], FIELD: provenance(item)}
        elif item.version > 0 and item.answer != item.asked.answer:
            sides = {"chosen": [answer], "rejected": [_said(item.asked.answer)]}
            yield item.id, {"prompt": asked, **sides, FIELD: provenance(item)}


def provenance(item: Item) -> dict[str, Any]:
    """What a dataset version says of the row: its item, the request, the people. What is not known is left out."""
    said = {
        "item": item.id,
        "origin": item.origin,
        "request": item.request_id,
        "user": item.user,
        "answered_by": item.bundle,
        "reviewers": [one.by for one in item.verdicts if one.approved],
        "rewritten_by": item.rewritten_by,
        "label": item.label,
    }
    return {name: value for name, value in said.items() if value}


def _said(answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": answer}
