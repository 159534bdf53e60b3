"""Preference pairs: `chosen` and `rejected` answers to a `prompt`, which may stand in both instead of alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from delivery.build.layouts.messages import with_context
from delivery.build.layouts.prompt_completion import turns_of
from delivery.build.layouts.row import Layout, Message, Reading, Unusable, text_of

KEYS = ("prompt", "chosen", "rejected")


def _fits(data: Mapping[str, Any]) -> bool:
    return all(isinstance(data.get(key), str | list) for key in ("chosen", "rejected"))


def _read(data: Mapping[str, Any]) -> Reading:
    chosen, first = turns_of(data, "chosen", "assistant")
    rejected, second = turns_of(data, "rejected", "assistant")
    if data.get("prompt") is not None:
        prompt, asked = turns_of(data, "prompt", "user")
        chosen, rejected = _behind(prompt, chosen), _behind(prompt, rejected)
    else:
        if isinstance(data.get("chosen"), str):
            text_of(data, "prompt")  # two texts do not say what they answer
        shared = next((n for n, pair in enumerate(zip(chosen, rejected, strict=False)) if pair[0] != pair[1]), -1)
        prompt, asked = chosen[:shared], ()
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    _refuse_no_choice(chosen, rejected)
    reading = with_context(prompt, tuple(dict.fromkeys((*asked, *first, *second))), data, *KEYS)
    return replace(reading, chosen=chosen, rejected=rejected)


def _behind(prompt: tuple[Message, ...], side: tuple[Message, ...]) -> tuple[Message, ...]:
    """An answer without the prompt, which some data sets repeat in front of it."""
    return side[len(prompt) :] if side[: len(prompt)] == prompt else side


def _refuse_no_choice(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> None:
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if [m["role"] for m in side] != ["assistant"]:
            found = ", ".join(m["role"] for m in side) or "nothing"
            raise Unusable("wrong-roles", f"`{name}` must answer the prompt with one assistant message, found {found}")
        if side[0].get("weight") == 0 or side[0].get("tool_calls"):
            raise Unusable("changes-meaning", f"`{name}` has a weight or tool calls, which a preference cannot hold")
    if chosen[0]["content"] == rejected[0]["content"]:
        raise Unusable("no-preference", "`chosen` and `rejected` are the same")


LAYOUT = Layout(_fits, _read)
