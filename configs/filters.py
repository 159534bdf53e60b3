"""Filters that a recipe may ask for besides the checks that every row goes through; none of them is on by itself."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.patterns import Regex
from configs.strict import Strict

Language = Literal[
    "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id",
    "is", "it", "ja", "ko", "lt", "lv", "nl", "nn", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "ta",
    "th", "tr", "uk", "ur", "vi", "zh",
]  # fmt: skip
"""ISO 639-1 codes, as py3langid names them."""

Entity = Literal[
    "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN", "CRYPTO", "SECRET"
]
"""Kinds of personal data; all but SECRET (keys, tokens and passwords) are names of presidio's recognisers."""

ENTITIES: tuple[Entity, ...] = (
    *("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE"),
    *("IP_ADDRESS", "US_SSN", "CRYPTO", "SECRET"),
)


class LengthFilter(Strict):
    """Limits in words (runs of letters and digits) and turns; a limit that is not set does not hold."""

    min_prompt_words: int | None = Field(None, ge=0, description="of all that the user says, together")
    max_prompt_words: int | None = Field(None, ge=1)
    min_answer_words: int | None = Field(None, ge=0, description="of each answer")
    max_answer_words: int | None = Field(None, ge=1)
    max_turns: int | None = Field(None, ge=1, description="messages of the user")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("no limit is set -> set one, e.g. min_answer_words, or take `length` out")
        for part in ("prompt", "answer"):
            low, high = getattr(self, f"min_{part}_words"), getattr(self, f"max_{part}_words")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{part}_words is {low} and max_{part}_words {high} -> no row fits both")
        return self


class LanguageFilter(Strict):
    """Rows in other languages than `allowed` are rejected: what the user says, and each answer, counts for itself."""

    allowed: tuple[Language, ...] = Field(min_length=1, description="e.g. [en, de]")
    min_confidence: float = Field(0.8, gt=0.5, le=1, description="a text is rejected where its language is as certain")
    min_letters: int = Field(20, ge=1, description="shorter texts pass: their language cannot be told")


class AnswerPattern(Strict):
    """A pattern that answers must not have; case is ignored."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="it stands in the report")
    pattern: Regex


class AnswerFilter(Strict):
    """What an answer must not say, by pattern."""

    refusals: bool = Field(True, description="answers that decline to help or speak of themselves as an AI; English")
    toxic: bool = Field(True, description="insults, threats and wishes of harm; English")
    patterns: tuple[AnswerPattern, ...] = Field((), description="of your own")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.refusals or self.toxic or self.patterns):
            raise ValueError("nothing is looked for -> set refusals, toxic or patterns, or take `answers` out")
        names = [one.name for one in self.patterns]
        if len(set(names)) < len(names) or {"refusal", "toxic"} & set(names):
            raise ValueError(f"patterns are named {names} -> each needs a name of its own, not refusal or toxic")
        return self


class PersonalDataFilter(Strict):
    """Personal data and secrets in messages, found by presidio's pattern recognisers and patterns of keys."""

    action: Literal["quarantine", "replace"] = Field(
        description="quarantine: the row is kept apart in quarantine.jsonl; replace: <EMAIL_ADDRESS> takes its place"
    )
    entities: tuple[Entity, ...] = Field(ENTITIES, min_length=1)
    min_score: float = Field(0.4, gt=0, le=1, description="how sure a recogniser must be; phone numbers score 0.4")
    phone_regions: tuple[str, ...] = Field(
        ("US", "GB", "DE", "FR"), min_length=1, description="whose phone numbers are known without a + in front"
    )


class NearDuplicateFilter(Strict):
    """Rows that say nearly the same as an earlier one, by the words that they share; MinHash finds the candidates."""

    similarity: float = Field(0.8, ge=0.5, le=1, description="the share of common runs of 3 words (Jaccard) from which")
    compare: Literal["row", "prompt"] = Field("row", description="the whole conversation, or what the user says first")
    scope: Literal["everywhere", "across-split"] = Field(
        "everywhere", description="across-split: only rows to train on go that are near a held-out one"
    )
