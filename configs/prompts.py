"""System prompts: the long one that the base model needs, the short one that the adapter was trained with."""

from pydantic import Field

from configs.strict import Strict


class Sampling(Strict):
    """Defaults for what a request leaves open; part of the bundle."""

    temperature: float = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(96, ge=1)


class Prompts(Strict):
    """Both system prompts of a route."""

    base: str = Field(min_length=1, description="for the base model without adapter: production's fallback")
    adapter: str = Field(min_length=1, description="for the adapter, in training, evals and production alike")
    sampling: Sampling = Sampling()
