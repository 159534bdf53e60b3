"""Alpaca's rows: `instruction` and `input` ask, `output` answers; `system` and `history` may stand beside."""

from collections.abc import Mapping
from typing import Any

from delivery.build.layouts.messages import with_context
from delivery.build.layouts.row import Layout, Message, Reading, Unusable, from_json, text_of


def _fits(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("instruction"), str) and isinstance(data.get("output"), str)


def _read(data: Mapping[str, Any]) -> Reading:
    asked = text_of(data, "instruction")
    if data.get("input") not in (None, ""):
        asked = f"{asked}\n\n{text_of(data, 'input')}"
    messages = [*_earlier(data), {"role": "user", "content": asked}]
    messages.append({"role": "assistant", "content": text_of(data, "output")})
    return with_context(messages, (), data, "instruction", "input", "output", "history")


def _earlier(data: Mapping[str, Any]) -> list[Message]:
    """`history`: pairs of what was asked and answered before, which are learned too."""
    turns: list[Message] = []
    for index, pair in enumerate(from_json(data.get("history")) or []):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise Unusable("wrong-shape", f"history.{index} must be [question, answer], found {pair!r:.60}")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


LAYOUT = Layout(_fits, _read)
