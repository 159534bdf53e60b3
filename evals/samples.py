"""What a behavioural eval asks and what came back: a conversation with gaps that the model fills, and its replies."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from configs.strict import Strict


class SampleTurn(Strict):
    """One turn. An assistant turn without content is a gap: the model under test answers there itself."""

    role: Literal["user", "assistant"]
    content: str | None = Field(None, min_length=1)


class Sample(Strict):
    """A conversation that ends with a user turn; the model's answer to that is the last of its replies."""

    id: str = Field(min_length=1)
    messages: tuple[SampleTurn, ...] = Field(min_length=1)
    expected: JsonValue = Field(None, description="what the last reply must be or say; scorers compare it")
    fields: dict[str, JsonValue] = Field(default_factory=dict, description="what else a scorer may want to know")

    @model_validator(mode="after")
    def _alternates(self) -> Self:
        roles = [message.role for message in self.messages]
        if len(roles) % 2 == 0 or roles != (["user", "assistant"] * len(roles))[: len(roles)]:
            raise ValueError(f"messages must go user, assistant, user, ... and end with user, found {roles}")
        if any(m.content is None for m in self.messages if m.role == "user"):
            raise ValueError("a user turn has no content -> only an assistant turn may leave it out")
        return self

    @property
    def given(self) -> str:
        """All that the model was told, its own replies not among it."""
        return "\n".join(m.content for m in self.messages if m.content)

    @property
    def replies(self) -> int:
        """How often the model answers."""
        return 1 + sum(m.content is None for m in self.messages)


@dataclass(frozen=True)
class Reply:
    """One answer of the model. `problem` says why there is no text; `cut` that max_tokens ended it."""

    text: str | None
    cut: bool = False
    problem: str = ""


def from_holdout(row: dict[str, Any], turn: Literal["first", "last"] = "last", field: str | None = None) -> Sample:
    """A held-out row of a dataset version, {"id", "messages", "fields"} or a preference pair, as a sample.

    The row's own first or last answer is left out, with all that follows, and asked for. It is what is `expected`,
    unless one of the row's `fields` holds that: the named one, or one that is called `expected`. Raises ValueError.
    """
    said = row["messages"] if "messages" in row else [*row["prompt"], *row["chosen"]]
    turns = [message for message in said if message["role"] != "system"]
    places = [place for place, message in enumerate(turns) if message["role"] == "assistant"]
    place = len(turns) if not places else places[0] if turn == "first" else places[-1]
    answer = turns[place].get("content") if places else None
    fields = row.get("fields") or {}
    if field is not None and field not in fields:
        raise ValueError(f"the row has no field {field!r} -> its fields: {', '.join(sorted(fields)) or 'none'}")
    expected = fields[field] if field is not None else fields.get("expected", answer)
    asked = [{"role": message["role"], "content": message.get("content")} for message in turns[:place]]
    return Sample.model_validate({"id": row["id"], "messages": asked, "expected": expected, "fields": fields})
