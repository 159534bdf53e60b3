"""TRL's rows of `prompt` and `completion`: two texts, or two lists of messages."""

from collections.abc import Mapping
from typing import Any

from delivery.build.layouts.messages import conversation, with_context
from delivery.build.layouts.row import Layout, Message, Reading, from_json, text_of


def _fits(data: Mapping[str, Any]) -> bool:
    return all(isinstance(data.get(key), str | list) for key in ("prompt", "completion"))


def _read(data: Mapping[str, Any]) -> Reading:
    prompt, asked = turns_of(data, "prompt", "user")
    completion, answered = turns_of(data, "completion", "assistant")
    return with_context((*prompt, *completion), (*asked, *answered), data, "prompt", "completion")


def turns_of(data: Mapping[str, Any], key: str, role: str) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """A text as one message of this role, or a list of messages as it is; with the kinds of changes."""
    if isinstance(from_json(data.get(key)), list | tuple):
        return conversation(data, key)
    return ({"role": role, "content": text_of(data, key)},), ()


LAYOUT = Layout(_fits, _read)
