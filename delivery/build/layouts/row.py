"""What every layout gives back, and how it takes a row apart: text stays text, and what does not fit is refused."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHOWN_CHARS = 60

Message = dict[str, Any]
"""`role` and `content`; an assistant's may have `tool_calls` and `weight` (0: no loss), a tool's `name` and id."""

Tools = Sequence[Mapping[str, Any]]
"""What a conversation may call, as the chat template gets it."""

TELLING = frozenset(
    {"images", "image", "audio", "audios", "videos", "video", "functions", "function_call", "chosen", "rejected"}
    | {"completions", "history", "system", "tools", "response_format", "loss_mask", "masked"}
)
"""Fields that change what a row says, unless they are empty. A layout that cannot honour one refuses the row."""

FLAGS = frozenset({"label", "kto_tag", "train", "weight"})
"""Fields that say that a row is not to be learned, where they are false or 0."""


class Unusable(Exception):  # noqa: N818  a verdict on one row, caught where rows are sifted
    """`reason` is one of a few words to count by, `detail` a sentence with the values."""

    def __init__(self, reason: str, detail: str):
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class NotUtf8(str):
    """Bytes of a table that are no UTF-8, as far as they can be shown; `fault` says which byte."""

    __slots__ = ("fault",)
    fault: str


@dataclass(frozen=True)
class Reading:
    """A row taken apart. A preference pair has `chosen` and `rejected` answers to `messages`, others have neither."""

    messages: tuple[Message, ...]
    fields: dict[str, Any]  # the row's other columns, which training does not use
    tools: tuple[dict[str, Any], ...] = ()
    chosen: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()
    changes: tuple[str, ...] = ()  # what was written otherwise in the row, in a few words to count by


@dataclass(frozen=True)
class Layout:
    """`fits` says whether a row looks like it; `read` takes one apart and raises Unusable."""

    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Reading]


def text_of(data: Mapping[str, Any], key: str, where: str = "") -> str:
    """A field that must be text."""
    value = data.get(key)
    if isinstance(value, NotUtf8):
        raise Unusable("not-utf8", f"`{where}{key}`: {value.fault}")
    if not isinstance(value, str):
        raise Unusable("wrong-shape", f"`{where}{key}` must be text, found {kind_of(data, key)}")
    return value


def kind_of(data: Mapping[str, Any], key: str) -> str:
    """What is found under a key, for a message."""
    if key in data:
        return "null" if data[key] is None else type(data[key]).__name__
    return f"no such field among {sorted(map(str, data))}"


def rest_of(data: Mapping[str, Any], *used: str) -> dict[str, Any]:
    """The fields that a layout does not use. Raises Unusable for one without which the row would say something else."""
    rest = {key: value for key, value in data.items() if key not in used and value is not None}
    for key, value in rest.items():
        if isinstance(value, NotUtf8):
            raise Unusable("not-utf8", f"`{key}`: {value.fault}; `ignore: [{key}]` leaves the field out")
        if (key in TELLING and value not in ([], {}, "")) or (key in FLAGS and _says_no(key, value)):
            shown = json.dumps(value, default=str)[:SHOWN_CHARS]
            what = f"`{key}` is {shown}, and without it the row would say something else"
            raise Unusable("changes-meaning", f"{what}; `ignore: [{key}]` in the source leaves it out on purpose")
    return rest


def _says_no(key: str, value: Any) -> bool:
    return value is False or (key == "weight" and value != 1)


def from_json(value: Any) -> Any:
    """Tables keep lists as JSON text: what that text says, where it is JSON at all."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
