"""System prompts: the long one that the base model needs, the short one that the adapter was trained with."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator

from configs.strict import Strict

SystemPlace = Literal["system", "first_user"]
OURS = frozenset(
    {"messages", "conversation", "tools", "documents", "chat_template", "tokenize"}
    | {"add_generation_prompt", "continue_final_message"}
)


class Sampling(Strict):
    """Defaults for what a request leaves open; part of the bundle."""

    temperature: float = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(96, ge=1)


class Prompts(Strict):
    """Both system prompts of a route."""

    base: str = Field(min_length=1, description="for the base model without adapter: production's fallback")
    adapter: str = Field(min_length=1, description="for the adapter, in training, evals and production alike")
    sampling: Sampling = Sampling()
    chat_template_kwargs: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="settings of the model's chat template, in training, evals and production alike, "
        "e.g. enable_thinking: false",
    )

    @field_validator("chat_template_kwargs")
    @classmethod
    def _leave_what_is_ours(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(given.keys() & OURS):
            raise ValueError(f"{', '.join(taken)} is set by the pipeline itself -> leave it out")
        return given


def with_system_prompt(
    messages: Sequence[Mapping[str, Any]], system_prompt: str, place: SystemPlace = "system"
) -> list[dict[str, Any]]:
    """The conversation with the prompt in front: as a system message, or at the head of the user's first turn.

    The one rule for training, evals and the gateway. Content may be text or a list of parts; all else stays.
    """
    rest = [dict(message) for message in messages]
    if place == "system":
        return [{"role": "system", "content": system_prompt}, *rest]
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system_prompt}, *rest]
    content = rest[0]["content"]
    if isinstance(content, str):
        rest[0]["content"] = f"{system_prompt}\n\n{content}"
    else:
        rest[0]["content"] = [{"type": "text", "text": f"{system_prompt}\n\n"}, *(content or ())]
    return rest
