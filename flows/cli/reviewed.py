"""What `slipway review` prints: the queue, an item as a reviewer sees it, and what came of a decision."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from configs.review import Review
from delivery.review.items import ORIGINS, Item
from tasks.review.collect import Collected
from tasks.review.desk import Overview

SHOWN_CHARS = 60


def render_collected(found: Collected) -> str:
    """What is new, and what is no item though something speaks for it."""
    lines = [f"{found.seen} items found, {found.new} of them new"]
    lines += [f"left out: {count} {reason}" for reason, count in sorted(found.left_out.items())]
    if found.erased:
        lines.append(f"erased: the texts of {len(found.erased)} items that nobody approved in time")
    return "\n".join(lines)


def render_overview(found: Overview, now: float) -> str:
    """The queue at a glance."""
    lines = []
    for status in ("open", "approved", "rejected", "erased"):
        counts = found.counts.get(status, {})
        kinds = ", ".join(f"{counts[origin]} {origin}" for origin in ORIGINS if origin in counts)
        lines.append(f"{status:9} {sum(counts.values()):>6}" + (f"   {kinds}" if kinds else ""))
    lines += [f"approved, and in no dataset version yet: {found.newly_approved}", found.agreement.render()]
    for item in found.items:
        held = f", with {item.lease_owner}" if item.lease_owner and now < item.lease_until else ""
        said = f", {_verdicts(item)}" if item.verdicts else ""
        lines.append(f"{item.id}  {item.origin:12} {_question(item)!r}{said}{held}")
    return "\n".join(lines)


def overview_json(found: Overview) -> dict[str, Any]:
    """The same for programs."""
    return {
        "counts": found.counts,
        "newly_approved": found.newly_approved,
        "agreement": found.agreement.model_dump(mode="json"),
        "items": [item.model_dump(mode="json") for item in found.items],
    }


def render_item(item: Item, acts: Sequence[Mapping[str, Any]], now: float) -> str:
    """One item, whole."""
    lines = [f"{item.id}  {item.origin}: {item.why}"]
    lines.append(f"  request {item.request_id or 'none'}, answered by {item.bundle or 'nobody known'}, {_at(item.at)}")
    for message in item.asked.messages if item.asked is not None else ():
        lines.append(_said(message["role"], message["content"]))
    if item.asked is not None and item.version > 0:
        lines.append(_said("answer as it came", item.asked.answer))
        lines.append(_said(f"answer, rewritten by {item.rewritten_by}", item.answer or ""))
    else:
        lines.append(_said("answer", item.answer or ""))
    if item.asked is not None and item.asked.other is not None:
        lines.append(_said("other answer", item.asked.other))
    if item.asked is not None and item.asked.comment is not None:
        lines.append(_said("the user's comment", item.asked.comment))
    for act in acts:
        word = f" ({act['label']})" if act["label"] else ""
        lines.append(f"  {_at(act['at'])} {act['by']}: {act['kind']}{word} - {act['reason']}")
    lines.append(f"  with {item.lease_owner} for {item.lease_until - now:.0f} s; then anybody may take it")
    return "\n".join(lines)


def render_state(item: Item, rules: Review) -> str:
    """What came of a decision, and what is still needed."""
    if item.status != "open":
        return f"{item.id} is {item.status}: {_verdicts(item)}"
    said = _verdicts(item) or "nobody has judged this text yet"
    other = ", and not by who wrote it" if item.version > 0 and rules.own_rewrites == "refuse" else ""
    return f"{item.id} is open: {said}; {rules.reviewers} must agree{other}"


def render_erased(items: Sequence[Item]) -> str:
    """What is gone, and which dataset versions have read it."""
    lines = [f"erased: the texts of {len(items)} items; their digests stay on record"]
    lines += [f"{item.id} was read by dataset version {item.dataset}" for item in items if item.dataset]
    return "\n".join(lines)


def _verdicts(item: Item) -> str:
    return ", ".join(f"{'approved' if one.approved else 'rejected'} by {one.by}" for one in item.verdicts)


def _question(item: Item) -> str:
    if item.asked is None:
        return ""
    text = " ".join(str(item.asked.messages[-1]["content"]).split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


def _said(who: str, text: str) -> str:
    return f"  {who}:\n" + "\n".join(f"    {line}" for line in text.splitlines())


def _at(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))
