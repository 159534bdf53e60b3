"""What the base model's tokenizer says of a row: its length, whether it comes through, and what it must not hold."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.canonical import digest_of
from configs.errors import SlipwayError
from delivery.build.layouts.row import Message, Tools, Unusable
from delivery.build.text import ControlTokens
from tasks.data.sources import file_digest
from tasks.training.chat import Chat, UntrainableError, open_chat

_MARKUP = re.compile(r"[<\[].*[>\]]", re.DOTALL)  # an added token such as <think>, not a word or white space


class ChatTokenizer:
    """A base model's tokenizer with its chat template, and the system prompt of rows that have none of their own."""

    def __init__(self, chat: Chat, system_prompt: str, digest: str):
        self.chat, self.system_prompt, self.digest = chat, system_prompt, digest
        self.tokenizer = chat.tokenizer

    def count(self, messages: Sequence[Message]) -> int:
        """The tokens of one conversation. Raises Unusable."""
        [found] = self.count_all([(messages, ())])
        if isinstance(found, Unusable):
            raise found
        return found

    def count_all(self, conversations: Sequence[tuple[Sequence[Message], Tools]]) -> list[int | Unusable]:
        """The tokens of each conversation, or why it has none; tokenised together, which takes a third of the time."""
        texts = [self._rendered(messages, tools) for messages, tools in conversations]
        good = [text for text in texts if isinstance(text, str)]
        ids = iter(self.tokenizer(good, add_special_tokens=False)["input_ids"] if good else ())
        more = self.chat.beyond_the_rendering if good else 0
        return [len(next(ids)) + more if isinstance(text, str) else text for text in texts]

    def control_tokens(self) -> ControlTokens:
        """Every token that the vocabulary flags as special, named by the configuration or not, and what only the
        template writes.
        """
        added = self.tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special} | set(self.tokenizer.all_special_tokens)
        template = str(self.tokenizer.chat_template)
        written = {t.content for t in added if t.content in template and _MARKUP.fullmatch(t.content)} - special
        return ControlTokens(special, written)

    def _rendered(self, messages: Sequence[Message], tools: Tools) -> str | Unusable:
        try:
            text = self.chat.with_tools(tools).render(self.chat.with_system(messages, self.system_prompt))
        except UntrainableError as error:
            return Unusable("template-refuses", error.what)
        lost = _left_out(text, messages, tools)
        return text if lost is None else Unusable("template-changes", f"the chat template does not show {lost}")


def _left_out(text: str, messages: Sequence[Message], tools: Tools) -> str | None:
    """What of a conversation is not in the text that the template made of it; templates drop what they do not know."""
    for index, message in enumerate(messages):
        if message["content"] not in text:
            return f"messages.{index} ({message['role']}) as it is written"
        for call in message.get("tool_calls", ()):
            if call["function"]["name"] not in text:
                return f"the call of {call['function']['name']} in messages.{index}; another base model may"
    lost = next((tool["function"]["name"] for tool in tools if tool["function"]["name"] not in text), None)
    return lost and f"the tool {lost}; `ignore: [tools]` in the source leaves the tools out on purpose"


def open_tokenizer(
    folder: Path, system_prompt: str, chat_template_kwargs: Mapping[str, Any] | None = None
) -> ChatTokenizer:
    """The tokenizer in a model's folder. Raises SlipwayError where it has no chat template."""
    chat = open_chat(folder, chat_template_kwargs)
    if not chat.tokenizer.chat_template:
        raise SlipwayError(
            f"the tokenizer in {folder} has no chat template", cure="use an instruct model, or add chat_template.jinja"
        )
    identity = {"tokenizer": file_digest(folder / "tokenizer.json"), "chat_template": str(chat.tokenizer.chat_template)}
    settings = {"chat_template_kwargs": chat.kwargs} if chat.kwargs else {}
    return ChatTokenizer(chat, system_prompt, digest_of(identity | settings))
