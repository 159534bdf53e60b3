"""Rows whose columns a recipe maps to messages by a template: `{question}`, `{choices|lettered}`, `{choices[gold]}`.

A template is text with holes, and nothing is evaluated: a hole names a field, a way into it, and how to write it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from configs.dataset import Turn
from delivery.build.layouts.row import NotUtf8, Reading, Unusable, from_json, rest_of

_HOLE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_NAME = re.compile(r"([^\[\]|]+?)(?:\[([^\[\]|]+)\])?(?:\|(\w+))?")


def read(data: Mapping[str, Any], turns: Sequence[Turn]) -> Reading:
    """The messages that the template makes of a row. Raises Unusable for a field that is missing or of no use there."""
    used: set[str] = set()
    messages = tuple({"role": turn.role, "content": _filled(turn.content, data, used)} for turn in turns)
    return Reading(messages, rest_of(data, *used))


def _filled(template: str, data: Mapping[str, Any], used: set[str]) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        return _written(match[1], data, used)

    return _HOLE.sub(fill, template)


def _written(hole: str, data: Mapping[str, Any], used: set[str]) -> str:
    parts = _NAME.fullmatch(hole)
    if parts is None:
        raise Unusable(
            "bad-template", f"{{{hole}}} is not {{field}}, {{field|how}} or {{field[other]}}; write {{{{ for {{"
        )
    name, index, how = parts[1].strip(), parts[2], parts[3]
    value = _field(name, data, used)
    if index is not None:
        value = _item(name, value, index, data, used)
    if how is not None and how not in HOWS:
        raise Unusable("bad-template", f"{{{hole}}}: {how!r} is not one of {', '.join(HOWS)}")
    return HOWS[how](name, value) if how is not None else _plain(name, value)


def _field(name: str, data: Mapping[str, Any], used: set[str]) -> Any:
    """A field by its name; where there is none, a way into nested ones: `meta.title`."""
    found: Any = data
    for part in [name] if name in data else name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise Unusable("missing-field", f"`{name}` is no field among {sorted(map(str, data))}")
        found = found[part]
    used.add(name if name in data else name.split(".")[0])
    if found is None:
        raise Unusable("missing-field", f"`{name}` is null")
    if isinstance(found, NotUtf8):
        raise Unusable("not-utf8", f"`{name}`: {found.fault}")
    return found


def _item(name: str, value: Any, index: str, data: Mapping[str, Any], used: set[str]) -> Any:
    items, at = from_json(value), index if index.isdigit() else _field(index, data, used)
    if isinstance(items, Mapping) and at in items:
        return items[at]
    if isinstance(items, list) and not isinstance(at, bool) and str(at).isdigit() and int(at) < len(items):
        return items[int(at)]
    raise Unusable("missing-field", f"`{name}[{index}]`: there is no item {at!r:.40} in {items!r:.60}")


def _plain(name: str, value: Any) -> str:
    """Text as it is, numbers and truth values as JSON writes them, a list of those one a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_plain(name, item) for item in value)
    if isinstance(value, int | float):
        return json.dumps(value)
    raise Unusable("wrong-shape", f"`{name}` is {type(value).__name__}: say how to write it, e.g. {{{name}|json}}")


def _json(name: str, value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lettered(name: str, value: Any) -> str:
    items = from_json(value)
    if not isinstance(items, list) or len(items) > len(ascii_uppercase):
        raise Unusable("wrong-shape", f"`{name}` must be a list of at most {len(ascii_uppercase)}, found {value!r:.60}")
    return "\n".join(f"{letter}) {_plain(name, item)}" for letter, item in zip(ascii_uppercase, items, strict=False))


def _letter(name: str, value: Any) -> str:
    if isinstance(value, bool) or not str(value).isdigit() or int(value) >= len(ascii_uppercase):
        raise Unusable("wrong-shape", f"`{name}` must be a number from 0 to 25, found {value!r:.60}")
    return ascii_uppercase[int(value)]


HOWS: dict[str, Callable[[str, Any], str]] = {"json": _json, "lettered": _lettered, "letter": _letter}
"""`json` writes any value; `lettered` a list as A) ..., B) ...; `letter` an index from 0 as its letter."""
