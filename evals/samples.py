"""What a behavioural eval asks and what came back: a conversation with gaps that the model fills, and its replies."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from configs.strict import Strict


class Message(Strict):
    """One turn. An assistant turn without content is a gap: the model under test answers there itself."""

    role: Literal["user", "assistant"]
    content: str | None = Field(None, min_length=1)


class Sample(Strict):
    """A conversation that ends with a user turn; the model's answer to that is the last of its replies."""

    id: str = Field(min_length=1)
    messages: tuple[Message, ...] = Field(min_length=1)
    answer: str | None = Field(None, description="the problem's final answer: one number, a unit may stand beside it")
    expect: Literal["guide", "refuse"] | None = Field(None, description="what the last reply must do, to stay in role")
    kind: str | None = Field(None, description="the kind of problem, for people")

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


def from_holdout(row: dict[str, Any]) -> dict[str, Any]:
    """A held-out row of a dataset version as a sample: the turns before the tutor's first one.

    The row is {"id", "messages", "fields"}; the final answer is expected in `fields.answer` (the reader of
    gsm8k-socratic puts it there), and a sample of a row without it has none.
    """
    turns: list[dict[str, Any]] = []
    for message in row["messages"]:
        if message["role"] == "assistant":
            break
        if message["role"] == "user":
            turns.append(message)
    answer = row.get("fields", {}).get("answer")
    return {"id": row["id"], "messages": turns, "answer": None if answer is None else str(answer)}
