"""Regular expressions in settings, for an engine whose time grows with the text alone: RE2, whatever the pattern.

Python's own takes hours for 30 characters where a pattern repeats what repeats. RE2 has no look-around and no
back-references; a pattern that needs them, or that is too large, is found when the file is read.
"""

import re
from functools import lru_cache
from typing import Annotated, Any

import re2
from pydantic import AfterValidator, Field

MOST_INSTRUCTIONS = 5_000  # of a compiled pattern: together with a text's length they bound the time of a search
SYNTAX = "https://github.com/google/re2/wiki/Syntax"
_PLACES = re.compile(r"\\(?:(\d)|g<(\w+)>|(.?))", re.DOTALL)  # of groups in a replacement
_ESCAPES = {"\\": "\\", "n": "\n", "t": "\t"}


@lru_cache(maxsize=1024)
def compiled(pattern: str, ignore_case: bool = False) -> Any:
    """RE2's object for a pattern: `search(text)`, `finditer(text)`, `programsize`. Raises ValueError.

    Classes like `\\w` and `\\d` mean ASCII; `\\pL` is a letter of any script, `\\p{Nd}` a digit.
    """
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        found = re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(_why(pattern, error.args[0])) from None
    if found.programsize > MOST_INSTRUCTIONS:
        what = f"it compiles to {found.programsize} instructions, at most {MOST_INSTRUCTIONS} are taken"
        raise ValueError(f"a pattern that is too large: {what} -> repeat less, or split it")
    return found


def _why(pattern: str, said: object) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return f"not a regular expression: {text}"
    cure = "write it without look-around, back-references and counts above 1000"
    return f"a regular expression that RE2 does not know: {text} -> {cure}; {SYNTAX} lists what it knows"


def substitute(pattern: Any, replacement: tuple[str | int, ...], text: str) -> str:
    """The text with the replacement (`template`) in the place of all that the compiled pattern finds."""
    parts, end = [], 0
    for match in pattern.finditer(text):
        parts.append(text[end : match.start()])
        parts += [part if isinstance(part, str) else match.group(part) or "" for part in replacement]
        end = match.end()
    return "".join((*parts, text[end:])) if parts else text


def template(pattern: Any, replacement: str) -> tuple[str | int, ...]:
    """Texts and groups of a replacement: `\\1`, `\\g<name>`, `\\\\`, `\\n`, `\\t` count. Raises ValueError."""
    parts: list[str | int] = []
    end = 0
    for place in _PLACES.finditer(replacement):
        digit, name, other = place.groups()
        parts.append(replacement[end : place.start()])
        parts.append(_group(pattern, digit or name) if other is None else _escaped(other))
        end = place.end()
    return tuple(part for part in (*parts, replacement[end:]) if part != "")


def _group(pattern: Any, named: str) -> int:
    number = int(named) if named.isdecimal() else pattern.groupindex.get(named, -1)
    if not 0 <= number <= pattern.groups:
        raise ValueError(f"it has no group {named!r}")
    return int(number)


def _escaped(letter: str) -> str:
    if letter not in _ESCAPES:
        raise ValueError(f"bad escape \\{letter}")
    return _ESCAPES[letter]


def _compiles(pattern: str) -> str:
    compiled(pattern)
    return pattern


Regex = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_compiles)]
