"""Finds the numbers in a text, however they are written: a tutor gives an answer away in words as well as in digits.

"12", "12.0", "$12", "1,200", "3/4", "2 1/2", "½", "twelve", "one hundred and twenty", "three quarters", "a dozen",
"two and a half" are numbers. "112" holds no 12, and "12th", "3x", "10:12" and "the third step" hold no number at all.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_SMALL = {
    **{"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9},
    **{"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16},
    **{"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50},
    **{"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12}
_PARTS = {"half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
_PARTS |= {"eighth": 8, "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "twentieth": 20, "hundredth": 100}
_PARTS |= {word + "s": n for word, n in _PARTS.items() if n > 2}

_WORD = "|".join(sorted([*_SMALL, *_LARGE], key=len, reverse=True))
_PART = "|".join(sorted(_PARTS, key=len, reverse=True))
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!,?\d)|\d+)(?:\.\d+)?|\.\d+"
_START, _END = r"(?<![0-9A-Za-z.])(?<![0-9][:/])", r"(?![0-9])(?![.:/]\d)(?!(?:st|nd|rd|th|[xyz])\b)"
_TOKEN = re.compile(
    rf"""
    {_START}(?:(?P<whole>\d+)\ )?(?P<over>\d+)/(?P<under>\d+){_END}
  | {_START}(?P<digits>{_DIGITS}){_END}
    (?:\ (?P<scale>hundred|thousand|million|dozen)\b)?(?:\ and\ (?:a|one)\ (?P<digits_part>half|quarter)\b)?
  | \b(?P<words>(?:an?[ ](?=hundred|thousand|million|dozen))?(?:{_WORD})(?:(?:[ -]+|[ ]and[ ])(?:{_WORD}))*)\b
    (?:[ ]and[ ](?:a|one)[ ](?P<words_part>half|quarter)\b)?
    (?:[ -](?P<denominator>{_PART})\b)?
  | \b(?:(?P<half>half)|an?[ ](?P<bare>{_PART}))\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Mention:
    """One number: its value, and the slice of the normalised text that it stands in."""

    value: Fraction
    start: int
    end: int
    reduced: bool = True  # false for 12/4 and 6/8: rather a division than a result
    vague: bool = False  # the bare word "one", which is mostly a pronoun


def normalised(text: str) -> str:
    """One way of writing for what looks the same: fraction signs, minus signs, LaTeX fractions, full-width digits."""
    text = re.sub(r"\\d?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text)
    text = "".join(_spelled(text, index, char) for index, char in enumerate(text))
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/").replace("\u2212", "-")
    text = re.sub(r"(?<=\d)[x×](?=\d)", " * ", text)
    return re.sub(r"\s+", " ", text)


def _spelled(text: str, index: int, char: str) -> str:
    if unicodedata.category(char) == "No" and "<fraction>" in unicodedata.decomposition(char):
        return (" " if index and text[index - 1].isdigit() else "") + unicodedata.normalize("NFKC", char)
    return char


def mentions(text: str) -> list[Mention]:
    """All numbers of a `normalised` text, in its order."""
    return [found for match in _TOKEN.finditer(text) for found in _read(text, match)]


def value_of(answer: str) -> Fraction | None:
    """The number that an expected answer names ("$1,200", "3/4", "12 apples"); None unless there is exactly one."""
    found = mentions(normalised(answer))
    return found[0].value if len(found) == 1 else None


def _read(text: str, match: re.Match[str]) -> Iterator[Mention]:
    start, end = match.span()
    if match["under"]:
        yield from _fraction(match)
    elif match["digits"]:
        value = Fraction(match["digits"].replace(",", "")) * _LARGE.get((match["scale"] or "").lower(), 1)
        value += _part(match["digits_part"])
        yield Mention(-value if _negative(text, start) else value, start, end)
    elif match["words"]:
        yield from _worded(match)
    else:
        yield Mention(_part(match["half"] or match["bare"]), start, end)


def _fraction(match: re.Match[str]) -> Iterator[Mention]:
    over, under = int(match["over"]), int(match["under"])
    if under == 0:
        return
    value = Fraction(over, under)
    yield Mention(value + int(match["whole"] or 0), *match.span(), reduced=value.denominator == under and under > 1)


def _worded(match: re.Match[str]) -> Iterator[Mention]:
    values = list(_numbers(re.split(r"[ -]+", match["words"].lower())))
    start, end = match.span()
    denominator = (match["denominator"] or "").lower()
    if denominator:
        plural = denominator.endswith("s")
        if plural or values[-1] == 1:
            values[-1] = values[-1] / _PARTS[denominator]
        else:
            values.pop()  # "twenty-fifth" is a place, not an amount
    elif values:
        values[-1] += _part(match["words_part"])
    for value in values:
        yield Mention(value, start, end, vague=match["words"].lower() == "one" and not denominator)


def _part(name: str | None) -> Fraction:
    return Fraction(1, _PARTS[name.lower()]) if name else Fraction(0)


def _numbers(words: list[str]) -> Iterator[Fraction]:
    """A run of number words as the numbers that it spells: "twenty five" is one, "two three" are two."""
    total, current, room, running = 0, 0, 0, False  # room: what may still be added to the current part
    for index, word in enumerate(words):
        if word in _LARGE:
            scale = _LARGE[word]
            if word == "hundred" or word == "dozen":
                current, room = max(current, 1) * scale, 100 if word == "hundred" else 0
            else:
                total, current, room = total + max(current, 1) * scale, 0, 1000
            running = True
        elif word in _SMALL:
            value = _SMALL[word]
            joins = running and value > 0 and value < room and not (words[index - 1] == "and" and room <= 10)
            if running and not joins:
                yield Fraction(total + current)
                total = current = 0
            current += value
            room, running = (10 if value >= 20 else 0), True
    if running:
        yield Fraction(total + current)


def _negative(text: str, start: int) -> bool:
    if start == 0 or text[start - 1] != "-":
        return False
    before = text[: start - 1]
    return not before or (before[-1] in " (=:" and not (before.rstrip() and before.rstrip()[-1] in "0123456789)"))
