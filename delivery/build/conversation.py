"""What a conversation must be to be trained on: whose turn it is, what a message holds. Unusable says what is wrong."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from configs.dataset import Filters
from delivery.build.layouts.row import Message, Tools, Unusable
from delivery.build.text import ControlTokens


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


def check_contents(
    messages: Sequence[Message], name: str, filters: Filters, control: ControlTokens, notices: dict[str, None]
) -> None:
    """No message is empty or too long, and none holds what the chat template or another model takes for its own."""
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


def check_tools(tools: Tools, control: ControlTokens) -> None:
    """No description of a tool holds what the chat template would take for its own."""
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
