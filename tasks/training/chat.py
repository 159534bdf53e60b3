"""How a conversation becomes the tokens that vLLM will see, and which of them the model itself must produce.

Training, the dataset's counts and the checks before a build all ask here, so that they agree: a prompt is what the
model's chat template makes of the messages with `add_generation_prompt`, with the settings that vLLM is sent too.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.prompts import SystemPlace, with_system_prompt
from tasks.training.template import ANSWERED, ASKED, REFUSED, place_of_system, shows_parts_only
from tasks.training.template import in_parts as in_parts_of

AnyMessage = Mapping[str, Any]
"""`role` and `content`; an assistant's may have `tool_calls`, and `weight` 0 where it is not to be learned."""
Messages = Sequence[AnyMessage]
MARK = ANSWERED["content"]
NEXT = "\ue002next\ue003"
REASONING = (  # what opens and closes a block of reasoning, in the families that have one
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought", "<channel|>"),
)
FILLER = re.compile(r"\s*(?:" + "|".join(rf"{re.escape(a)}\s*{re.escape(b)}" for a, b in REASONING) + r")?\s*")


class UntrainableError(ValueError):
    """Why an answer cannot be trained on, and what to do about it."""

    def __init__(self, what: str, cure: str):
        self.what, self.cure = what, cure
        super().__init__(f"{what} -> {cure}")


@dataclass(frozen=True)
class Spoken:
    """One turn of the assistant: what vLLM would send the model, and what the model must produce after it."""

    prompt: str
    target: str  # ends with the token at which vLLM stops
    prompt_ids: list[int]
    target_ids: list[int]


class Chat:
    """A tokenizer with its chat template, and the settings that each request to vLLM brings along."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int], kwargs: Mapping[str, Any] | None = None):
        self.tokenizer, self.stop_ids, self.kwargs = tokenizer, stop_ids, dict(kwargs or {})
        self.tools: list[Mapping[str, Any]] | None = None

    def with_tools(self, tools: Sequence[Mapping[str, Any]] | None) -> "Chat":
        """The same chat with functions that the model may call, as a client of vLLM would name them."""
        if not tools:
            return self
        chat = copy.copy(self)
        chat.tools = list(tools)
        return chat

    @cached_property
    def in_parts(self) -> bool:
        """Whether the template prints content only as a list of parts; vLLM then sends such a list."""
        return shows_parts_only(lambda messages: self._apply(messages, False, in_parts=False))

    @cached_property
    def system_place(self) -> SystemPlace:
        """Where the system prompt goes, by what the template makes of one."""
        return place_of_system(lambda messages: self._apply(messages, True, in_parts=self.in_parts))

    @cached_property
    def beyond_the_rendering(self) -> int:
        """Tokens of a prompt with its answer that the rendered conversation does not have, such as an empty block."""
        spoken = self.answer([ASKED], {"role": "assistant", "content": "x"})
        whole = self.tokens(self.render([ASKED, {"role": "assistant", "content": "x"}]))
        return max(0, len(spoken.prompt_ids) + len(spoken.target_ids) - len(whole))

    def with_system(self, messages: Messages, system_prompt: str) -> list[dict[str, Any]]:
        """The conversation as it will be served. A row that brings its own system message keeps that one alone."""
        if messages and messages[0]["role"] == "system":
            return with_system_prompt(messages[1:], messages[0]["content"], self.system_place)
        return with_system_prompt(messages, system_prompt, self.system_place)

    def render(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        """The text that the template makes of a conversation. Raises UntrainableError where the template refuses it."""
        try:
            return self._apply(messages, add_generation_prompt, in_parts=self.in_parts)
        except REFUSED as error:
            cure = "bring the row into the order of roles that the base model knows"
            raise UntrainableError(f"the chat template refuses the conversation: {error}", cure) from error

    def tokens(self, text: str) -> list[int]:
        """As vLLM tokenises what a template has rendered: control tokens count, none are added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def length(self, messages: Messages) -> int:
        """Tokens of a conversation, prompt and answer, at the longest."""
        return len(self.tokens(self.render(messages))) + self.beyond_the_rendering

    def answer(self, before: Messages, answer: AnyMessage) -> Spoken:
        """What is trained when the assistant says `answer` after `before`. Raises UntrainableError.

        What the template itself puts between the generation prompt and the answer is left out where it says nothing
        (an empty block of reasoning, white space), for a model that is asked at the generation prompt need not say it.
        It stays where the model must say it: the end of a block that the prompt has opened, or a channel's name.
        """
        prompt = self.render(before, add_generation_prompt=True)
        asked = [*before[:-1], {**before[-1], "content": ASKED["content"]}] if before else []
        cue, lead, tail = self._frame(asked)
        written = self._behind(asked, answer)
        if not written.startswith(cue):
            raise UntrainableError(
                "the chat template renders the prompt otherwise once this answer follows it",
                "take reasoning out of the answer, or let chat_template_kwargs switch thinking on",
            )
        if answer.get("tool_calls"):
            target = self._calls(answer, _without_filler(written[len(cue) :], lead))
        else:
            said = self._said(prompt, lead, tail, written[len(cue) :], answer["content"])
            target = said + self._until_stop(asked, tail)
            if lead.isspace() and not target.startswith(lead) and self._merges(prompt, target):
                target = lead + target  # Llama 2 has a token for the bracket before an answer and the answer's brace
        return Spoken(prompt, target, *self._both(prompt, target))

    def _said(self, prompt: str, lead: str, tail: str, body: str, content: str) -> str:
        """An answer as the model must say it, without what ends the turn."""
        body = body.removesuffix(tail)
        opened = next((pair for pair in REASONING if prompt.rstrip().endswith(pair[0])), None)
        if opened and opened[1] in content:  # the template of a distilled R1 drops the reasoning of every answer
            said = content.lstrip().removeprefix(opened[0]).lstrip("\n")
        elif opened:
            closing = lead if opened[1] in lead else f"\n{opened[1]}\n\n"
            said = closing + body.removeprefix(lead)
        else:
            said = _without_filler(body, lead)
        self._require_unchanged(content, said)
        return said

    def _calls(self, answer: AnyMessage, body: str) -> str:
        """An answer that calls functions, in the words of the template, up to the first token at which vLLM stops."""
        names = [call["function"]["name"] for call in answer["tool_calls"]]
        if lost := [name for name in names if name not in body]:
            raise UntrainableError(
                f"the chat template leaves out the calls of {', '.join(lost)}",
                "leave the row out, or use another model",
            )
        encoded = self.tokenizer(body, add_special_tokens=False, return_offsets_mapping=True)
        for token, (_, last) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if token in self.stop_ids:
                return body[:last]
        cure = "name the token that ends it in generation_config.json: eos_token_id"
        raise UntrainableError(f"a call of functions ends with {body[-20:]!r}, and not with a stop token", cure)

    def _apply(self, messages: Messages, add_generation_prompt: bool = False, *, in_parts: bool) -> str:
        sent = in_parts_of(messages) if in_parts else messages
        text = self.tokenizer.apply_chat_template(
            list(sent), tools=self.tools, tokenize=False, add_generation_prompt=add_generation_prompt, **self.kwargs
        )
        return str(text)

    def _frame(self, asked: Messages) -> tuple[str, str, str]:
        """What is written from the last message to an answer, with and without the answer: in both, and in one; after.

        Only what follows the last message is compared: Mistral writes the system prompt into it, or leaves it out.
        """
        prompt = self.render(asked, add_generation_prompt=True)
        prompt = prompt.partition(ASKED["content"])[2] if asked else prompt
        before, found, tail = self._behind(asked, ANSWERED).partition(MARK)
        if not found:
            raise UntrainableError("the chat template leaves the answer out", "use a chat model's own template")
        length = next((n for n, (a, b) in enumerate(zip(prompt, before, strict=False)) if a != b), len(prompt))
        cue = before[:length]
        return cue, before[len(cue) :], tail

    def _behind(self, asked: Messages, *more: AnyMessage) -> str:
        """What is rendered after the last of the messages when more of them follow it."""
        text = self.render([*asked, *more])
        if not asked:
            return text
        _, found, rest = text.partition(ASKED["content"])
        if not found:
            raise UntrainableError("the chat template leaves a message out", "use a chat model's own template")
        return rest

    def _until_stop(self, asked: Messages, tail: str) -> str:
        """From an answer's end to the token at which vLLM stops, which some templates write with the next turn only."""
        end = self._stop_in(tail)
        if end is None:
            following = self._behind(asked, ANSWERED, {"role": "user", "content": NEXT})
            tail = following.partition(MARK)[2].partition(NEXT)[0]
            end = self._stop_in(tail)
        if end is None:
            raise UntrainableError(
                f"after the answer the chat template writes {tail!r}, and no token at which vLLM stops",
                "name the token that ends a turn in generation_config.json: eos_token_id",
            )
        return tail[:end]

    def _stop_in(self, tail: str) -> int | None:
        """Characters up to and with the first stop token; only control tokens and white space may lie before it."""
        encoded = self.tokenizer(tail, add_special_tokens=False, return_offsets_mapping=True)
        control = control_ids(self.tokenizer)
        for token, (first, last) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if token in self.stop_ids:
                return int(last)
            if token not in control and tail[first:last].strip():
                return None
        return None

    def _both(self, prompt: str, target: str) -> tuple[list[int], list[int]]:
        """Both as tokens; the prompt's are exactly those that vLLM makes of it."""
        asked, together = self.tokens(prompt), self.tokens(prompt + target)
        if together[: len(asked)] == asked:
            return asked, together[len(asked) :]
        apart = self.tokens(target)  # one token would lie across the edge, and vLLM never sends it
        if self._text(asked + apart) != self._text(together):
            raise UntrainableError(
                "the answer's first token is another one behind the prompt than alone",
                "remove white space at the answer's start",
            )
        return asked, apart

    def _merges(self, prompt: str, target: str) -> bool:
        """Whether one token would lie across the edge between the two."""
        asked = self.tokens(prompt)
        return self.tokens(prompt + target)[: len(asked)] != asked

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @staticmethod
    def _require_unchanged(content: str, said: str) -> None:
        """Templates trim white space around an answer and around its reasoning; they may change nothing else."""
        if not content.strip():
            raise UntrainableError("the answer is empty", "leave the row out: the model would learn to say nothing")
        if content.strip() in said:
            return
        if any(closing in content for _, closing in REASONING) and _words(said).endswith(_words(content)):
            return
        raise UntrainableError(
            f"the chat template makes {said[:80]!r} of the answer {content[:80]!r}",
            "use a base model whose template renders answers as they are",
        )


def _without_filler(body: str, lead: str) -> str:
    """A turn without the nothing that the template says before every answer."""
    return body[len(lead) :] if body.startswith(lead) and FILLER.fullmatch(lead) else body


def _words(text: str) -> str:
    """Without white space and without what opens and closes reasoning."""
    for mark in (mark for pair in REASONING for mark in pair):
        text = text.replace(mark, " ")
    return "".join(text.split())


def open_chat(folder: Path, kwargs: Mapping[str, Any] | None = None) -> Chat:
    """A model folder's tokenizer and template; nothing is downloaded, and no code of the model's is run."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return Chat(tokenizer, stop_ids(folder, tokenizer), kwargs)


def stop_ids(folder: Path, tokenizer: Any) -> frozenset[int]:
    """The tokens at which vLLM ends an answer: the tokenizer's, and generation_config.json's (else config.json's)."""
    ids = {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists():
            config = json.loads((folder / name).read_text(encoding="utf-8"))
            found = config.get("eos_token_id", (config.get("text_config") or {}).get("eos_token_id"))
            ids.update(found if isinstance(found, list) else [found])
            break
    return frozenset(ids - {None})


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Every token that the vocabulary flags as special, also those that the tokenizer's settings do not name."""
    flagged = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(flagged | set(tokenizer.all_special_ids))


def control_tokens(tokenizer: Any, stops: frozenset[int] = frozenset()) -> list[str]:
    """The texts that must not stand in a row: vLLM reads them as control tokens, whoever typed them."""
    ids = sorted(control_ids(tokenizer) | stops)
    return [str(token) for token in tokenizer.convert_ids_to_tokens(ids) if token]
