"""How a message looks to each kind of receiver: pure."""

import hashlib
import time
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

from configs.notifications import Email
from delivery.release.messages import ReleaseMessage

LONGEST = 3000  # characters: Slack cuts at 4,000, Teams at 28 KB
SLACK = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKS = {"alert": "⚠", "approval": "✋", "rollback": "↩", "refusal": "⛔", "live": "✅"}


def generic(message: ReleaseMessage) -> dict[str, Any]:
    """All fields, `at` as a date too; `key` is the same when a message comes twice."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(message.at))
    return {**message.model_dump(mode="json"), "time": at}


def slack(message: ReleaseMessage) -> dict[str, Any]:
    """Markdown as Slack reads it; what others have written in it links and calls nobody."""
    title, text = _escaped(message.title), _escaped(_cut(message.text))
    return {"text": f"{MARKS[message.kind]} *{title}*\n{text}\n_{_escaped(message.environment)}_"}


def teams(message: ReleaseMessage) -> dict[str, Any]:
    """An adaptive card, which is what a workflow's webhook posts."""
    title = {"type": "TextBlock", "text": _plain(f"{MARKS[message.kind]} {message.title}"), "weight": "Bolder"}
    lines = [{"type": "TextBlock", "text": _plain(line)} for line in _cut(message.text).splitlines() if line.strip()]
    place = {"type": "TextBlock", "text": _plain(message.environment), "isSubtle": True}
    blocks: list[dict[str, Any]] = [title, *lines, place]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{**block, "wrap": True} for block in blocks],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}


def mail(message: ReleaseMessage, settings: Email) -> EmailMessage:
    """A mail; it has the same Message-ID when it comes twice, by which mail programs know it."""
    made = EmailMessage()
    made["Subject"] = f"[slipway {message.environment}] {' '.join(message.title.split())[:200]}"
    made["From"] = settings.sender
    made["To"] = ", ".join(settings.to)
    made["Date"] = formatdate(message.at)
    made["Message-ID"] = f"<{_digest(message)}@{settings.sender.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"  # holiday replies stay away
    facts = {"environment": message.environment, "route": message.route, "release": message.release_id}
    facts |= {"bundle": message.bundle}
    made.set_content("\n".join([message.text, "", *(f"{name}: {what}" for name, what in facts.items() if what)]))
    return made


def _digest(message: ReleaseMessage) -> str:
    return hashlib.sha256(f"{message.environment} {message.key}".encode()).hexdigest()[:32]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _escaped(text: str) -> str:
    return "".join(SLACK.get(letter, letter) for letter in text)


def _plain(text: str) -> str:
    """Cards read Markdown: links and emphasis stay text."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>~" else letter for letter in text)
