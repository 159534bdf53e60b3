"""What the gateway writes down of the requests that pass it: how many, with or without text, and for how long."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from configs.patterns import Regex, compiled, template
from configs.strict import Strict


class Redaction(Strict):
    """What is put in a pattern's place before a text is written."""

    pattern: Regex = Field(description="a regular expression, as RE2 reads it")
    replacement: str = Field("[redacted]", description="a \\1 in it is the pattern's first group")

    @model_validator(mode="after")
    def _can_be_put_in(self) -> Self:
        try:
            template(compiled(self.pattern), self.replacement)
        except ValueError as error:
            what = f"replacement {self.replacement!r} cannot stand for pattern {self.pattern!r}: {error}"
            raise ValueError(f"{what} -> name a group that the pattern has, and write a backslash as \\\\") from None
        return self


_WORD = r"\w\x{80}-\x{10FFFF}"  # of any script: RE2's \w is ASCII's
_DIGIT = r"[^\P{Nd}0-9]"
USUAL = (
    Redaction(pattern=rf"[{_WORD}.+-]+@[{_WORD}-]+(?:\.[{_WORD}-]+)+", replacement="[e-mail]"),
    Redaction(pattern=r"\b(?:sk|pk|ghp|xox[abp])[-_][\w-]{8,}", replacement="[key]"),
    Redaction(pattern=rf"(^|[^{_WORD}.])\+?\d(?:[ ()/.-]?\d){{8,}}\b", replacement=r"\1[number]"),  # telephones, cards
    Redaction(pattern=rf"{_DIGIT}(?:[ ()/.-]?{_DIGIT}){{8,}}", replacement="[number]"),  # in digits of other scripts
)


class TrafficLog(Strict):
    """Sampled requests as parquet files. Without `text` nothing that users or models said is written."""

    folder: Path | None = Field(None, description="where the files go; by default `traffic` beside the routing table")
    share: float = Field(1.0, ge=0, le=1, description="of the requests, with all their attempts and feedback")
    text: bool = Field(False, description="also prompts, answers and comments, redacted")
    redact: tuple[Redaction, ...] = Field(USUAL, description="rules for texts, applied in this order")
    max_file_mib: float = Field(64, gt=0)
    max_file_age_s: float = Field(300, gt=0, description="an open file is what a kill can lose")
    max_total_mib: float = Field(2048, gt=0, description="of all files; the oldest go first")
    max_age_days: float = Field(30, gt=0, description="older files are removed")
