"""The table of layouts, and which of them some rows have: told only where it is unmistakable."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from configs.errors import Problem
from delivery.build.layouts import alpaca, gsm8k_socratic, messages, preference, prompt_completion, sharegpt
from delivery.build.layouts.row import Layout

LAYOUTS: dict[str, Layout] = {
    "messages": messages.LAYOUT,
    "sharegpt": sharegpt.LAYOUT,
    "alpaca": alpaca.LAYOUT,
    "prompt-completion": prompt_completion.LAYOUT,
    "preference": preference.LAYOUT,
    "gsm8k-socratic": gsm8k_socratic.LAYOUT,
}
COLUMNS = "columns"  # what a source with a template of its own is said to be read by
SHOWN_FIELDS = 12


def recognise(rows: Iterable[Any]) -> str | Problem:
    """The only layout that the rows can have, by its name in LAYOUTS, or what speaks against telling one."""
    objects = [row for row in rows if isinstance(row, Mapping)]
    found = Counter(name for row in objects for name, layout in LAYOUTS.items() if layout.fits(row))
    fields = list(dict.fromkeys(str(key) for row in objects for key in row))
    shown = ", ".join(fields[:SHOWN_FIELDS]) + (", ..." if len(fields) > SHOWN_FIELDS else "")
    if len(found) == 1:
        return next(iter(found))
    if found:
        counts = ", ".join(f"{name} ({rows} rows)" for name, rows in found.most_common())
        return Problem("reader", f"the rows could be read as {counts}; their fields are {shown}", _cure(fields))
    if not objects:
        return Problem("reader", "no row is an object with named fields", "one JSON object a row, or a table")
    return Problem("reader", f"the rows have no layout that is known; their fields are {shown}", _cure(fields))


def unknown_reader(name: str) -> Problem | None:
    """What is wrong with a reader's name, if anything is."""
    if name in LAYOUTS:
        return None
    return Problem(
        "reader", f"there is no reader {name!r}", f"known: {', '.join(LAYOUTS)}; or map the fields by `messages`"
    )


def _cure(fields: list[str]) -> str:
    asked, answered = (*fields, "question", "answer")[:2]
    example = f'{{role: user, content: "{{{asked}}}"}}, {{role: assistant, content: "{{{answered}}}"}}'
    return f"name `reader` ({', '.join(LAYOUTS)}), or map the fields: `messages: [{example}]`"
