"""The response contract of a route: what an answer must not do, as named detectors that need nothing but its text.

The gateway judges complete answers by it, for stable and candidate alike; a release plan may then ask for
`contract:<detector>`. A detector says True when an answer breaks it. It sees at most JUDGED_CHARS characters, when the
user has the answer, and takes a bounded time whatever the answer: patterns are RE2's, schemas are checked in steps.
"""

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from configs.json_schema import check_schema
from configs.patterns import Regex, compiled
from configs.strict import Strict

FIXED_WORK = 100  # instructions that a form or a refusal is worth
JUDGED_CHARS = 8_000  # of an answer are kept; a longer one is judged by these as far as that is possible
DetectorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]


class Form(Strict):
    """Broken by an answer that is too long, holds markup, or does not end as it should."""

    kind: Literal["form"]
    max_words: int | None = Field(None, ge=1)
    max_sentences: int | None = Field(None, ge=1)
    plain_text: bool = Field(False, description="one paragraph without lists or markup")
    ends_with: Literal["question"] | None = Field(None, description="question: exactly one, at the end")

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.max_words is None and self.max_sentences is None and not self.plain_text and self.ends_with is None:
            raise ValueError("this form allows everything -> give max_words, max_sentences, plain_text or ends_with")
        return self


class Refusal(Strict):
    """Broken by an answer that turns the request down, in the route's own words or in those that models use for it."""

    kind: Literal["refusal"]
    opening: str | None = Field(None, min_length=1, description="how this route's refusals start")


class Pattern(Strict):
    """Broken by an answer in which a pattern is found (or, with `broken_by: absence`, is not)."""

    kind: Literal["pattern"]
    pattern: Regex = Field(description="a regular expression as RE2 reads it, searched anywhere in the answer")
    broken_by: Literal["presence", "absence"] = "presence"
    ignore_case: bool = True


class Json(Strict):
    """Broken by an answer that is not JSON, or not JSON of this schema."""

    kind: Literal["json"]
    json_schema: dict[str, JsonValue] = Field(default_factory=dict, description="{}: any JSON")

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
        check_schema(schema)
        return schema


Detector = Annotated[Form | Refusal | Pattern | Json, Field(discriminator="kind")]


class Contract(Strict):
    """A route's detectors by name."""

    detectors: dict[DetectorName, Detector] = Field(min_length=1, max_length=16)

    @cached_property
    def work(self) -> int:
        """How many instructions a character of an answer may take at most; a form or a refusal counts as FIXED_WORK."""
        return sum(
            compiled(one.pattern, one.ignore_case).programsize if isinstance(one, Pattern) else FIXED_WORK
            for one in self.detectors.values()
        )
