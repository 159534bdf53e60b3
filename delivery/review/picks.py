"""Which requests of the traffic log become items, and why: complaints first, then broken contracts, then a sample.

It goes over the log twice: the signals of all requests come first (`wanted`), what was said only by those that become
items (`picked`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from configs.canonical import digest_of
from configs.review import Review
from delivery.build.layouts.known import LAYOUTS
from delivery.build.layouts.row import Message, Unusable
from delivery.review.items import AskedAndAnswered, ItemDraft, ItemOrigin

SHOWN_TO_USERS = ("served", "failover", "tester")
Alike = Callable[[str, str], float]  # how alike two answers are, from 0 to 1


@dataclass(frozen=True)
class LoggedRow:
    """One row of the log: an attempt to answer a request, or feedback. `broken` names the detectors that fired."""

    request_id: str
    is_feedback: bool
    variant: str
    role: str
    ok: bool
    at: float  # of feedback: when it was given
    user: str = ""
    bundle: str = ""
    rating: int | None = None
    escalated: bool = False
    broken: tuple[str, ...] = ()
    prompt: str | None = None
    answer: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Picked:
    """What becomes items, and how many requests do not though something speaks for them, by reason."""

    found: tuple[ItemDraft, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def wanted(rows: Iterable[LoggedRow], rules: Review) -> dict[str, set[ItemOrigin]]:
    """The requests that may become items, with what speaks for each. Texts are not looked at."""
    found: dict[str, set[ItemOrigin]] = {}
    mirrored: set[str] = set()
    answered: set[str] = set()
    for row in rows:
        reasons = found.setdefault(row.request_id, set()) if _speaks(row) else set()
        if row.rating == -1:
            reasons.add("negative")
        if row.escalated:
            reasons.add("escalated")
        if row.broken and row.role in SHOWN_TO_USERS:
            reasons.add("contract")
        if not row.is_feedback and row.ok:
            (mirrored if row.role == "mirror" else answered).add(row.request_id)
    for request_id in answered:
        if request_id in mirrored:
            found.setdefault(request_id, set()).add("disagreement")
        if _in_sample(request_id, rules.sample_share):
            found.setdefault(request_id, set()).add("sampled")
    return found


def _speaks(row: LoggedRow) -> bool:
    return row.rating == -1 or row.escalated or bool(row.broken and row.role in SHOWN_TO_USERS)


def _in_sample(request_id: str, share: float) -> bool:
    """The same requests whenever they are asked about; a larger share has all of a smaller one's."""
    return int(digest_of({"sampled": request_id})[7:19], 16) < share * 16**12


def picked(rows: Iterable[LoggedRow], reasons: Mapping[str, set[ItemOrigin]], rules: Review, alike: Alike) -> Picked:
    """Items out of these rows, which are all those of the requests in `reasons`."""
    by_request: dict[str, list[LoggedRow]] = {}
    for row in rows:
        if row.request_id in reasons:
            by_request.setdefault(row.request_id, []).append(row)
    found: list[ItemDraft] = []
    left_out: dict[str, int] = {}
    for request_id, own in by_request.items():
        try:
            one = _item(own, reasons[request_id], rules, alike)
        except Unusable as fault:
            left_out[fault.reason] = left_out.get(fault.reason, 0) + 1
        else:
            found += [one] if one is not None else []
    return Picked(tuple(found), left_out)


def _item(rows: Sequence[LoggedRow], reasons: set[ItemOrigin], rules: Review, alike: Alike) -> ItemDraft | None:
    shown = [row for row in rows if not row.is_feedback and row.role in SHOWN_TO_USERS and row.ok]
    if not shown:
        raise Unusable("not-answered", "no attempt of it ended with an answer that a user saw")
    answer = max(shown, key=lambda row: row.at)
    if answer.prompt is None or answer.answer is None:
        raise Unusable("no-text", "the log holds no text of it")
    mirror = next((row for row in rows if row.role == "mirror" and row.ok and row.answer is not None), None)
    said = {reason: _why(reason, rows, answer, mirror, rules, alike) for reason in _ordered(reasons)}
    origin = next((reason for reason, why in said.items() if why), None)
    if origin is None:
        return None
    comment = next((row.comment for row in rows if row.comment), None)
    try:
        asked = AskedAndAnswered(
            messages=messages_of(answer.prompt),
            answer=answer.answer,
            other=mirror.answer if mirror is not None else None,
            comment=comment,
        )
    except ValidationError as error:
        raise Unusable("not-a-question", str(error.errors()[0]["msg"])) from error
    why = "; ".join(text for text in said.values() if text)
    return ItemDraft(
        origin=origin,
        why=why,
        asked=asked,
        request_id=answer.request_id,
        user=answer.user,
        bundle=answer.bundle,
        at=answer.at,
    )


def _ordered(reasons: set[ItemOrigin]) -> list[ItemOrigin]:
    order: tuple[ItemOrigin, ...] = ("escalated", "negative", "contract", "disagreement", "sampled")
    return [one for one in order if one in reasons]


def _why(
    reason: ItemOrigin,
    rows: Sequence[LoggedRow],
    answer: LoggedRow,
    mirror: LoggedRow | None,
    rules: Review,
    alike: Alike,
) -> str:
    """In a few words, without what was said; empty where it does not hold after all."""
    if reason == "disagreement":
        if mirror is None or answer.answer is None or mirror.answer is None:
            return ""
        differing = sorted(set(mirror.broken) ^ set(answer.broken))
        if differing:
            return f"in shadow one of two answers broke the contract: {', '.join(differing)}"
        near = alike(answer.answer, mirror.answer)
        return f"in shadow two answers were {near:.2f} alike" if near < rules.disagree_below else ""
    broken = sorted({name for row in rows if row.role in SHOWN_TO_USERS for name in row.broken})
    return {
        "escalated": "the user asked for a person",
        "negative": "the user rated the answer -1",
        "contract": f"the answer broke the contract: {', '.join(broken)}",
        "sampled": "sampled",
    }[reason]


def messages_of(prompt: str) -> tuple[Message, ...]:
    """A logged prompt as messages. Raises Unusable, also for one that the log has cut."""
    try:
        said: Any = json.loads(prompt)
    except ValueError:
        raise Unusable("prompt-cut", "the log holds the beginning of it alone") from None
    if isinstance(said, str):
        return ({"role": "user", "content": said},)
    return LAYOUTS["messages"].read({"messages": said}).messages
