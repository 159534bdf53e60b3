"""Rows that are too short or too long to teach anything, in words and turns."""

import re

from configs.filters import LengthFilter
from delivery.build.layouts.row import Unusable
from delivery.build.rows import Example
from tasks.data.filters.texts import answers, asked

VERSION = 1
_WORD = re.compile(r"\w+")


def judge(settings: LengthFilter, example: Example) -> Example:
    """Raises Unusable (length) with the count and the limit."""
    turns = asked(example)
    _check(
        "what the user says", _words(" ".join(turns)), settings.min_prompt_words, settings.max_prompt_words, "prompt"
    )
    for where, text in answers(example):
        _check(where, _words(text), settings.min_answer_words, settings.max_answer_words, "answer")
    if settings.max_turns is not None and len(turns) > settings.max_turns:
        raise Unusable("length", f"{len(turns)} messages of the user, max_turns is {settings.max_turns}")
    return example


def _words(text: str) -> int:
    return len(_WORD.findall(text))


def _check(where: str, found: int, low: int | None, high: int | None, part: str) -> None:
    if low is not None and found < low:
        raise Unusable("length", f"{where} has {found} words, min_{part}_words is {low}")
    if high is not None and found > high:
        raise Unusable("length", f"{where} has {found} words, max_{part}_words is {high}")
