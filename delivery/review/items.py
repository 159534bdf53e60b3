"""An item of the review queue: one question with the answer that it got, why people look at it, and what they said."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from configs.canonical import digest_of, short
from configs.strict import Strict
from delivery.build.layouts.row import Message

ItemOrigin = Literal["hand", "escalated", "negative", "contract", "disagreement", "eval", "sampled"]
ORIGINS: tuple[ItemOrigin, ...] = get_args(ItemOrigin)  # what comes first is looked at first
Status = Literal["open", "approved", "rejected", "erased"]
ActKind = Literal["label", "rewrite", "approve", "reject", "erase"]


class AskedAndAnswered(Strict):
    """What was said: the only part of an item that an erasure takes away."""

    messages: tuple[Message, ...] = Field(min_length=1)  # OpenAI's, up to the question
    answer: str
    other: str | None = None  # what the candidate answered in shadow, or what a suite expects
    comment: str | None = None  # the user's

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, found: tuple[Message, ...]) -> tuple[Message, ...]:
        if found[-1].get("role") not in ("user", "tool"):
            raise ValueError(f"the last message is the {found[-1].get('role')}'s, and a question is the user's")
        return found


class ItemDraft(Strict):
    """What becomes an item. Its id follows from where it comes from, so that it is collected once."""

    origin: ItemOrigin
    why: str  # in a few words, without what was said
    asked: AskedAndAnswered
    request_id: str = ""  # or the eval sample's name
    user: str = ""  # the pseudonym that the traffic log has
    bundle: str = ""  # who answered
    at: float  # when it was said, UNIX seconds

    @property
    def id(self) -> str:
        """`r-` and 12 hex digits: of the request, or of what was said where there is none."""
        what = {"request": self.request_id} if self.request_id else {"asked": self.asked.model_dump(mode="json")}
        return "r-" + short(digest_of(what))


class ReviewerVerdict(Strict):
    """What a person said of the text as it is now."""

    by: str
    approved: bool


class Item(Strict):
    """An item as the queue has it. Times are UNIX seconds."""

    id: str
    origin: ItemOrigin
    why: str
    request_id: str
    user: str
    bundle: str
    at: float
    added_at: float
    place: int  # in the queue: what came earlier has a smaller one
    status: Status
    version: int  # of its text: 0 as it came, then one more for each rewrite
    rewritten_by: str | None
    label: str
    verdicts: tuple[ReviewerVerdict, ...]  # on this version of the text, each by another person
    lease_owner: str  # empty: nobody has taken it
    lease_until: float
    asked: AskedAndAnswered | None  # as it came; None once it is erased
    answer: str | None  # as it is now, with the newest rewrite
    dataset: str | None = None  # the first dataset version that read it

    @property
    def order(self) -> tuple[int, int]:
        """Smaller comes first."""
        return (ORIGINS.index(self.origin), self.place)


def text_digest(content: Mapping[str, Any]) -> str:
    """What stays on record of a text: its digest."""
    return digest_of(dict(content))
