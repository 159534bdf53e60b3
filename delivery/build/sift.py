"""Which rows a dataset version keeps: each row becomes an example, or a rejection with its reason and the values.

Nothing is dropped in silence, and nothing is changed in silence: an example carries what was changed in it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from configs.dataset import Filters
from delivery.build.conversation import check_contents, check_roles, check_tools
from delivery.build.layouts import columns
from delivery.build.layouts.known import LAYOUTS
from delivery.build.layouts.row import Message, Reading, Tools, Unusable
from delivery.build.rows import ERASED, Change, Example, RawRow, Rejected
from delivery.build.steps import RowStep
from delivery.build.text import ControlTokens, repaired

BATCH = 256  # rows whose tokens are counted together
SHOWN_CHARS = 120

CountTokens = Callable[[Sequence[tuple[Sequence[Message], Tools]]], Sequence[int | Unusable]]
"""The length of each conversation (with its tools) by the base model's chat template, or why it has none."""


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
    steps: Sequence[RowStep] = (),
) -> Sifted:
    """Every row to an example or to a rejection, in the order of the rows; all of them in memory."""
    found = list(sifted(rows, filters, count_tokens, control, system_prompt, steps))
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
    steps: Sequence[RowStep] = (),
) -> Iterator[Example | Rejected]:
    """As `sift`, row by row: of each row that went by only 64 bits of its digest and its number stay in memory.

    `steps` judge a row before its tokens are counted, so that what they change counts as it is trained on.
    """
    seen: dict[int, int] = {}
    sources: list[str] = []
    read = partial(_attempt, filters=filters, control=control or ControlTokens(), prompt=system_prompt, steps=steps)
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        for row, outcome in zip(batch, _judged(batch, filters, count_tokens, read), strict=True):
            if isinstance(outcome, Example) and filters.drop_exact_duplicates:
                if not sources or sources[-1] != row.source:
                    sources.append(row.source)
                place = len(sources) - 1 << 40 | row.number
                first = seen.setdefault(int(outcome.id, 16), place)
                if first != place:
                    same = f"the same messages as row {first & (1 << 40) - 1} of {sources[first >> 40]}"
                    outcome = Unusable("duplicate", same)
            if isinstance(outcome, Unusable):
                data = None if outcome.reason == ERASED else row.data
                yield Rejected(row.source, row.number, outcome.reason, outcome.detail, data)
            else:
                yield outcome


def _judged(
    batch: Sequence[RawRow],
    filters: Filters,
    count_tokens: CountTokens,
    read: Callable[[RawRow], Example | Unusable],
) -> Iterator[Example | Unusable]:
    found = [read(row) for row in batch]
    asked = [conversation for one in found if isinstance(one, Example) for conversation in _conversations(one)]
    counts = iter(count_tokens(asked) if asked else ())
    for one in found:
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


def _attempt(
    row: RawRow, filters: Filters, control: ControlTokens, prompt: str, steps: Sequence[RowStep]
) -> Example | Unusable:
    try:
        example = _read(row, filters, control, prompt)
        for step in steps:
            example = step.judge(example)
        return example
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
        check_contents(messages, name, filters, control, notices)
    check_tools(reading.tools, control)
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
