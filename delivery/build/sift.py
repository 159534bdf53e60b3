"""Which rows a dataset version keeps: each row becomes an example, or a rejection with its reason and the values.

Nothing is dropped in silence, and nothing is changed in silence: an example carries what was changed in it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

from configs.canonical import digest_of, short
from configs.dataset import Filters, Turn
from delivery.build.layouts import columns
from delivery.build.layouts.known import LAYOUTS
from delivery.build.layouts.row import Message, Reading, Unusable
from delivery.build.text import ControlTokens, repaired

BATCH = 256  # rows whose tokens are counted together
SHOWN_CHARS = 120

Tools = Sequence[Mapping[str, Any]]
CountTokens = Callable[[Sequence[tuple[Sequence[Message], Tools]]], Sequence[int | Unusable]]
"""The length of each conversation (with its tools) by the base model's chat template, or why it has none."""


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


@dataclass(frozen=True)
class Sifted:
    """All rows, each in exactly one of the two."""

    examples: tuple[Example, ...]
    rejected: tuple[Rejected, ...]


def sift(
    rows: Iterable[RawRow],
    filters: Filters,
    count_tokens: CountTokens,
    control: ControlTokens | None = None,
    system_prompt: str = "",
) -> Sifted:
    """Every row to an example or to a rejection, in the order of the rows; all of them in memory."""
    found = list(sifted(rows, filters, count_tokens, control, system_prompt))
    return Sifted(
        tuple(one for one in found if isinstance(one, Example)),
        tuple(one for one in found if isinstance(one, Rejected)),
    )


def sifted(
    rows: Iterable[RawRow],
    filters: Filters,
    count_tokens: CountTokens,
    control: ControlTokens | None = None,
    system_prompt: str = "",
) -> Iterator[Example | Rejected]:
    """As `sift`, row by row: of each row that went by only 64 bits of its digest and its number stay in memory."""
    seen: dict[int, int] = {}
    sources: list[str] = []
    control = control or ControlTokens()
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        for row, outcome in zip(batch, _judged(batch, filters, count_tokens, control, system_prompt), strict=True):
            if isinstance(outcome, Example) and filters.drop_exact_duplicates:
                if not sources or sources[-1] != row.source:
                    sources.append(row.source)
                place = len(sources) - 1 << 40 | row.number
                first = seen.setdefault(int(outcome.id, 16), place)
                if first != place:
                    same = f"the same messages as row {first & (1 << 40) - 1} of {sources[first >> 40]}"
                    outcome = Unusable("duplicate", same)
            if isinstance(outcome, Unusable):
                yield Rejected(row.source, row.number, outcome.reason, outcome.detail, row.data)
            else:
                yield outcome


def _judged(
    batch: Sequence[RawRow], filters: Filters, count_tokens: CountTokens, control: ControlTokens, system_prompt: str
) -> Iterator[Example | Unusable]:
    read = [_attempt(row, filters, control, system_prompt) for row in batch]
    asked = [conversation for one in read if isinstance(one, Example) for conversation in _conversations(one)]
    counts = iter(count_tokens(asked) if asked else ())
    for one in read:
        if isinstance(one, Unusable):
            yield one
            continue
        lengths = [next(counts) for _ in _conversations(one)]
        fault = next((length for length in lengths if isinstance(length, Unusable)), None)
        longest = max(length for length in lengths if isinstance(length, int)) if fault is None else 0
        if fault is not None:
            yield fault
        elif longest > filters.max_row_tokens:
            what = f"{longest} tokens with the system prompt, max_row_tokens is {filters.max_row_tokens}"
            yield Unusable("too-long", f"{what}; to keep such rows raise it, and max_sequence_tokens with it")
        else:
            yield replace(one, tokens=longest)


def _conversations(example: Example) -> list[tuple[Sequence[Message], Tools]]:
    if example.is_preference:
        sides = (example.chosen, example.rejected)
        return [((*example.messages, *side), example.tools) for side in sides]
    return [(example.messages, example.tools)]


def _attempt(row: RawRow, filters: Filters, control: ControlTokens, system_prompt: str) -> Example | Unusable:
    try:
        return _read(row, filters, control, system_prompt)
    except Unusable as fault:
        return fault


def _read(row: RawRow, filters: Filters, control: ControlTokens, system_prompt: str) -> Example:
    if row.fault is not None:
        raise Unusable(*row.fault)
    if not isinstance(row.data, dict):
        raise Unusable("wrong-shape", f"expected an object with named fields, found {type(row.data).__name__}")
    data = {key: value for key, value in row.data.items() if key not in row.ignore} if row.ignore else row.data
    reading = columns.read(data, row.template) if row.template else LAYOUTS[row.reader].read(data)
    changes = {kind: Change("row", "", "") for kind in (*row.changes, *reading.changes)}
    sides = {name: _repaired(getattr(reading, name), name, changes) for name in ("messages", "chosen", "rejected")}
    check_roles(sides["messages"], is_prompt=bool(reading.chosen))
    notices = _notices(reading, sides["messages"], system_prompt)
    for name, messages in sides.items():
        _check_contents(messages, name, filters, control, notices)
    _check_tools(reading.tools, control)
    return Example(
        sides["messages"], reading.fields, 0, reading.tools, sides["chosen"], sides["rejected"],
        row.source, row.number, changes, tuple(notices),
    )  # fmt: skip


def _repaired(messages: Sequence[Message], name: str, changes: dict[str, Change]) -> tuple[Message, ...]:
    done = []
    for index, message in enumerate(messages):
        text, kinds = repaired(message["content"])
        for kind in kinds:
            where, before = f"{name}.{index}.content", message["content"]
            changes.setdefault(kind, Change(where, before[:SHOWN_CHARS], text[:SHOWN_CHARS]))
        done.append({**message, "content": text} if kinds else message)
    return tuple(done)


def _notices(reading: Reading, messages: Sequence[Message], system_prompt: str) -> dict[str, None]:
    """What is kept as it is, and is still worth knowing: counted beside the changes."""
    own = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
    found = {
        "own-system-prompt": own is not None and own != repaired(system_prompt)[0],
        "tools": bool(reading.tools) or any("tool_calls" in message for message in messages),
        "turns-not-learned": any(message.get("weight") == 0 for message in messages),
    }
    return {kind: None for kind, is_there in found.items() if is_there}


def check_roles(messages: Sequence[Message], is_prompt: bool = False) -> None:
    """[system,] user, assistant, user, assistant ...; tools answer between an assistant's calls and its next turn."""
    turns = messages[1:] if messages and messages[0]["role"] == "system" else messages
    before, calls = "assistant", False
    good = bool(turns)
    for turn in turns:
        role = turn["role"]
        after_tools = before == "tool" and role in ("tool", "assistant")
        after_calls = before == "assistant" and calls and role == "tool"
        plain = (before, role) in (("assistant", "user"), ("user", "assistant")) and not (calls and role == "user")
        good = good and (after_tools or after_calls or plain)
        before, calls = role, bool(turn.get("tool_calls"))
    last = ("user", "tool") if is_prompt else ("assistant",)
    if not good or before not in last:
        found = ", ".join(message["role"] for message in messages) or "no messages"
        what = "user (a prompt ends with its question)" if is_prompt else "user, assistant, user, assistant ..."
        raise Unusable("wrong-roles", f"expected [system,] {what}, found {found}")
    if not any(turn.get("weight") != 0 for turn in turns if turn["role"] == "assistant") and not is_prompt:
        raise Unusable("nothing-learned", "every assistant message has weight 0")


def _check_contents(
    messages: Sequence[Message], name: str, filters: Filters, control: ControlTokens, notices: dict[str, None]
) -> None:
    for index, message in enumerate(messages):
        where, text, role = f"{name}.{index} ({message['role']})", message["content"], message["role"]
        if not text and "tool_calls" not in message:
            raise Unusable("empty-content", f"{where} is empty")
        for said in (text, *_texts_in(message.get("tool_calls", ()))):
            _check_control(said, role, where, filters, control, notices)
        low, high = filters.min_answer_chars, filters.max_answer_chars
        if role == "assistant" and "tool_calls" not in message and not low <= len(text) <= high:
            raise Unusable("answer-length", f"{where} has {len(text)} characters, allowed are {low} to {high}")


def _check_control(
    text: str, role: str, where: str, filters: Filters, control: ControlTokens, notices: dict[str, None]
) -> None:
    own = control.own(text, role)
    if own is not None:
        raise Unusable("special-token", f"{where} holds {own!r}, which the chat template would take for its own")
    foreign = control.foreign(text)
    if foreign is None:
        return
    if filters.foreign_control_tokens == "reject":
        what = f"{where} holds {foreign!r}, which other models take for a control token"
        raise Unusable("control-token", f"{what}; filters.foreign_control_tokens: keep lets such text pass")
    notices["foreign-control-token"] = None


def _check_tools(tools: Tools, control: ControlTokens) -> None:
    for text in _texts_in(tools):
        found = control.own(text, "system")
        if found is not None:
            raise Unusable("special-token", f"tools hold {found!r}, which the chat template would take for its own")


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts_in(item)
    elif isinstance(value, Iterable):
        for item in value:
            yield from _texts_in(item)
