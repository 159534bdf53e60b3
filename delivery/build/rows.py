"""What becomes of a row: raw as in its file, an example as in a dataset version, or a rejection that says why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from configs.canonical import digest_of, short
from configs.dataset import Turn
from delivery.build.layouts.row import Message

ERASED = "erased"  # the reason of rows whose person asked for it; such a rejection has no data


@dataclass(frozen=True)
class RawRow:
    """A row as its file has it. `fault` is (reason, detail) when it could not even be read."""

    source: str
    number: int  # line of the file, or row of the table, from 1
    reader: str
    data: Any
    fault: tuple[str, str] | None = None
    template: tuple[Turn, ...] = ()
    ignore: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()  # what reading the file has changed already


@dataclass(frozen=True)
class Change:
    """What a kind of change did to a row, where it is seen first."""

    where: str
    before: str
    after: str


@dataclass(frozen=True)
class Example:
    """A kept row. `fields` are the row's other columns: evals may use them, training does not."""

    messages: tuple[Message, ...]
    fields: Mapping[str, Any]
    tokens: int
    tools: tuple[dict[str, Any], ...] = ()
    chosen: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()
    source: str = ""
    row: int = 0
    changes: Mapping[str, Change] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """16 hex digits of the digest of what is trained on."""
        more = {"tools": self.tools, "chosen": self.chosen, "rejected": self.rejected}
        said = {name: list(value) for name, value in more.items() if value}
        return short(digest_of({"messages": list(self.messages), **said} if said else list(self.messages)), 16)

    @cached_property
    def prompt(self) -> str:
        """What the user says first, without differences of case and spacing: the unit of the split."""
        first = next(m["content"] for m in self.messages if m["role"] == "user")
        return " ".join(first.casefold().split())

    @property
    def is_preference(self) -> bool:
        """Whether the row is a pair of answers rather than a conversation."""
        return bool(self.chosen)

    def as_row(self) -> dict[str, Any]:
        """The row of train.jsonl or holdout.jsonl."""
        fields = {"fields": dict(self.fields)} | ({"tools": list(self.tools)} if self.tools else {})
        if self.chosen:
            sides = {"chosen": list(self.chosen), "rejected": list(self.rejected)}
            return {"id": self.id, "prompt": list(self.messages), **sides, **fields}
        return {"id": self.id, "messages": list(self.messages), **fields}


@dataclass(frozen=True)
class Rejected:
    """A row that was not kept: `reason` is one of a few words to count by, `detail` a sentence with the values."""

    source: str
    row: int
    reason: str
    detail: str
    data: Any
