"""A base model's chat template without its tokenizer: read and tried in a second, before anything is spent."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from configs.errors import Problem
from configs.prompts import SystemPlace

ASKED = {"role": "user", "content": "\ue004asked\ue005"}  # private-use characters: no template knows them
SYSTEM = {"role": "system", "content": "\ue006system\ue007"}
ANSWERED = {"role": "assistant", "content": "\ue000answer\ue001"}
TOOL = {"type": "function", "function": {"name": "probe_tool", "description": "-", "parameters": {"type": "object"}}}
REFUSED = (TemplateError, TypeError, ValueError)
DATED = ("date_string", "current_date", "today_date", "date")  # what templates call the date, where they ask for one
GIVEN = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now", "namespace"}
    | {"range", "tojson", "content", "reasoning_content", "bos_token", "eos_token", "unk_token", "pad_token"}
)
DAYS = ("1 of May", "2 of June")
PINNED = "26 Jul 2026"  # any day that stays

Render = Callable[[Sequence[Mapping[str, Any]]], str]


@dataclass(frozen=True)
class ChatTemplate:
    """The text of a template, and the tokens that it may name."""

    text: str
    special: Mapping[str, str]

    def render(self, messages: Sequence[Mapping[str, Any]], **kwargs: Any) -> str:
        """As transformers renders it, with the generation prompt. Raises one of REFUSED where the template does."""
        given = {"tools": None, "documents": None, "add_generation_prompt": True, **self.special, **kwargs}
        return str(self._compiled().render(messages=list(messages), **given))

    def reads(self) -> set[str]:
        """The settings that it asks for, besides what every template is given."""
        from jinja2 import meta

        asked = meta.find_undeclared_variables(self._compiled().environment.parse(self.text))
        return set(asked) - GIVEN

    def _compiled(self) -> Any:
        """By transformers' own environment; its public function hides functions from a template."""
        from transformers.utils.chat_template_utils import _compile_jinja_template

        return _compile_jinja_template(self.text)


def read_template(folder: Path) -> ChatTemplate:
    """The template that transformers would take: chat_template.jinja, or the one named in tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
    special = {name: _content(settings[name]) for name in names if settings.get(name)}
    jinja = folder / "chat_template.jinja"
    found = jinja.read_text(encoding="utf-8") if jinja.exists() else settings.get("chat_template") or ""
    if isinstance(found, list):  # several by name
        found = next((one["template"] for one in found if one["name"] == "default"), "")
    return ChatTemplate(str(found), special)


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def shows_parts_only(render: Render) -> bool:
    """Whether a template prints content only as a list of parts; vLLM then sends it such a list."""
    try:
        return ASKED["content"] not in render([ASKED])
    except REFUSED:
        return True


def in_parts(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each text as the only part of its message."""
    return [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]


def place_of_system(render: Render) -> SystemPlace:
    """Where the system prompt goes: a template may refuse the system role (Gemma 2) or leave it out in silence."""
    try:
        if SYSTEM["content"] in render([SYSTEM, ASKED]):
            return "system"
    except REFUSED:
        pass
    try:
        return "first_user" if ASKED["content"] in render([ASKED]) else "system"
    except REFUSED:  # it takes nothing that we know: no question of where
        return "system"


def system_place(folder: Path, kwargs: Mapping[str, Any]) -> SystemPlace:
    """The same for the template in a model's folder."""
    template = read_template(folder)
    parts = shows_parts_only(lambda messages: template.render(messages, **kwargs))
    return place_of_system(lambda messages: template.render(in_parts(messages) if parts else messages, **kwargs))


def problems_with_template(template: ChatTemplate, kwargs: Mapping[str, Any]) -> list[Problem]:
    """Why the template cannot serve a system prompt and a question, or not the same way every day; empty if it can."""
    where = "the base model's chat template"

    def render(messages: Sequence[Mapping[str, Any]]) -> str:
        return template.render(in_parts(messages) if parts else messages, **kwargs)

    parts = shows_parts_only(lambda messages: template.render(messages, **kwargs))
    messages: list[Mapping[str, Any]] = [SYSTEM, ASKED] if place_of_system(render) == "system" else [ASKED]
    try:
        text = render(messages)
    except REFUSED as error:
        cure = "use a chat model's own template, or correct chat_template_kwargs in prompts.yaml"
        return [Problem(where, f"it refuses a system prompt and a question: {error}", cure)]
    if ASKED["content"] not in text:
        return [Problem(where, "it leaves the user's question out", "use a chat model's own template")]
    return [*_unread(template, kwargs), *_dated(template, messages, kwargs)]


def usual_settings(template: ChatTemplate, reasoning: bool) -> dict[str, Any]:
    """What a new project says to its template: thinking is on where its answers hold reasoning, and no date moves."""
    settings = {"enable_thinking": reasoning} if "enable_thinking" in template.reads() else {}
    try:
        name = _pinning(template, [ASKED], settings) if _depends(template, [ASKED], settings) else None
    except REFUSED:  # `check` says so
        name = None
    return settings | ({name: PINNED} if name else {})


def _unread(template: ChatTemplate, kwargs: Mapping[str, Any]) -> list[Problem]:
    """Settings that the template never reads: vLLM leaves them out in silence."""
    read = template.reads()
    cure = "leave it out; the template reads " + (", ".join(sorted(read)) or "no settings")
    return [
        Problem(f"prompts.yaml: chat_template_kwargs.{name}", "the base model's chat template does not read it", cure)
        for name in sorted(kwargs.keys() - read)
    ]


def _dated(template: ChatTemplate, messages: Sequence[Mapping[str, Any]], kwargs: Mapping[str, Any]) -> list[Problem]:
    """Whether the prompt is another one tomorrow: what was evaluated today would not be what is served then."""
    if not _depends(template, messages, kwargs):
        return []
    name = _pinning(template, messages, kwargs)
    pinned = f'pin it in prompts.yaml: `chat_template_kwargs: {{{name}: "{PINNED}"}}`' if name else ""
    cure = pinned or "write a date into the template: save it as chat_template.jinja in a copy of the model's folder"
    what = "it writes the day's date into every prompt, so that the model is asked otherwise every day"
    return [Problem("the base model's chat template", what, cure)]


def _depends(
    template: ChatTemplate, messages: Sequence[Mapping[str, Any]], kwargs: Mapping[str, Any], **more: Any
) -> bool:
    """Whether what the template writes depends on the day."""
    parts = shows_parts_only(lambda said: template.render(said, **kwargs))
    said = in_parts(messages) if parts else messages
    days = [template.render(said, strftime_now=lambda _, day=day: day, **kwargs, **more) for day in DAYS]
    return days[0] != days[1]


def _pinning(template: ChatTemplate, messages: Sequence[Mapping[str, Any]], kwargs: Mapping[str, Any]) -> str | None:
    """The setting that keeps the date as it is given; None where the template has none."""
    unset = [name for name in DATED if name not in kwargs]
    return next((name for name in unset if not _depends(template, messages, kwargs, **{name: PINNED})), None)


def takes_tools(template: ChatTemplate, kwargs: Mapping[str, Any]) -> bool:
    """Whether functions that a client names reach the prompt."""
    try:
        return TOOL["function"]["name"] in template.render([ASKED], tools=[TOOL], **kwargs)  # type: ignore[index]
    except REFUSED:
        return False
