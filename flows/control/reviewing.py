"""The review queue in the control room: what a reviewer does there, and an item as HTML."""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from configs.control_room import may
from delivery.clients.ledger.review import Queue
from delivery.clients.people import Person
from delivery.review.items import ORIGINS, Item, Status
from flows.control.acts import NotAllowedError
from flows.control.room import Room
from tasks.review import desk as at
from tasks.review.desk import Desk, Overview

Decision = Literal["approve", "reject", "rewrite", "take the other"]
MOST_WORDS = 4000  # of two texts together, whose difference is looked for word by word
STATUSES: tuple[Status, ...] = ("open", "approved", "rejected", "erased")


@dataclass
class Reviews:
    """What people do with a route's queue. Each is checked against their roles, and stands in the ledger."""

    room: Room

    def overview(self, route: str) -> Overview:
        """The queue at a glance."""
        return at.overview(self._desk(route), limit=1)

    def take(self, who: Person, route: str, now: float) -> Item | None:
        """The item that this person does next; None when nothing waits for them."""
        self._require(who)
        return at.take(self._desk(route), who.name, now)

    def give_back(self, who: Person, route: str, item_id: str, now: float) -> None:
        """Lets others take it."""
        self._require(who)
        at.give_back(self._desk(route), who.name, item_id, now)

    def decide(
        self, who: Person, route: str, item_id: str, what: Decision, reason: str, now: float, answer: str, label: str
    ) -> Item:
        """Says what is to be learned from an item. Raises SlipwayError with the reason where this person may not."""
        self._require(who)
        desk, name = self._desk(route), who.name
        if what == "approve":
            return at.approve(desk, name, item_id, reason, now, label)
        if what == "reject":
            return at.reject(desk, name, item_id, reason, now, label)
        if what == "rewrite":
            return at.rewrite(desk, name, item_id, answer, reason, now)
        return at.take_other(desk, name, item_id, reason, now)

    def _desk(self, route: str) -> Desk:
        site, project = self.room.site(route), self.room.project(route)
        return Desk(site.ledger, Queue(environment=site.name, route=route), project.dataset.review)

    @staticmethod
    def _require(who: Person) -> None:
        if not who.name or not may(who.roles, "review"):
            roles = ", ".join(sorted(who.roles)) or "no role"
            raise NotAllowedError(f"{who.name or 'nobody who is signed in'} may not review: {roles}")


def overview_html(found: Overview) -> str:
    """How many items there are, of which origin, and how far two people agree."""
    rows = []
    for status in STATUSES:
        counts = found.counts.get(status, {})
        kinds = ", ".join(f"{counts[origin]} {origin}" for origin in ORIGINS if origin in counts)
        rows.append(f"<tr><th scope=row>{status}</th><td>{sum(counts.values())}</td><td>{kinds}</td></tr>")
    return (
        f'<table><caption class="soft small">{escape(found.agreement.render())}. Approved, and in no dataset version '
        f"yet: {found.newly_approved}.</caption><tbody>{''.join(rows)}</tbody></table>"
    )


def item_html(item: Item) -> str:
    """What was asked and answered, and what others said of it; every text as it is, none of it markup."""
    if item.asked is None:
        return "<p>The texts of this item were erased.</p>"
    said = "".join(
        f'<div class="said"><strong>{escape(str(message["role"]))}</strong><pre>{_text(message)}</pre></div>'
        for message in item.asked.messages
    )
    answers = [("Answer", escape(item.asked.answer))]
    if item.version > 0:
        answers = [
            ("Answer as it came", escape(item.asked.answer)),
            (f"Rewritten by {escape(item.rewritten_by or '')}", difference(item.asked.answer, item.answer or "")),
        ]
    if item.asked.other is not None:
        answers.append(("The other answer", escape(item.asked.other)))
    shown = "".join(f'<div class="check"><h4>{title}</h4><pre>{text}</pre></div>' for title, text in answers)
    comment = f'<p class="says">The user says: {escape(item.asked.comment)}</p>' if item.asked.comment else ""
    verdicts = "".join(
        f"<li>{escape(one.by)} {'approved' if one.approved else 'rejected'} this text</li>" for one in item.verdicts
    )
    return (
        f"<h2>{escape(item.origin)}: {escape(item.why)}</h2>"
        f'<p class="soft small">item <code>{escape(item.id)}</code></p>'
        f'{said}<div class="checks">{shown}</div>{comment}{f"<ul>{verdicts}</ul>" if verdicts else ""}'
    )


def difference(before: str, after: str) -> str:
    """The newer text as HTML, with what went and what came marked; of very long texts the newer one alone."""
    old, new = (re.findall(r"\s+|[^\s]+", text) for text in (before, after))
    if len(old) + len(new) > MOST_WORDS:
        return escape(after)
    parts = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, come = escape("".join(old[i:j])), escape("".join(new[k:m]))
        if kind == "equal":
            parts.append(come)
        else:
            parts.append((f"<del>{gone}</del>" if gone else "") + (f"<ins>{come}</ins>" if come else ""))
    return "".join(parts)


def said_of(item: Item, needed: int) -> str:
    """What came of a decision, in a sentence."""
    if item.status != "open":
        return f"{item.id} is {item.status}."
    if not item.verdicts:
        return f"{item.id} is rewritten; it is now to be approved by {needed}."
    return f"{item.id} waits for another person: {needed} must agree."


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    told = content if isinstance(content, str) else "" if content is None else json.dumps(content, ensure_ascii=False)
    return escape("\n".join(filter(None, [told, json.dumps(rest, ensure_ascii=False) if rest else ""])))
