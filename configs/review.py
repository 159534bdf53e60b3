"""How what production said becomes rows to train on: who reviews it, how many of them, and what starts a refresh."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.strict import Strict


class Review(Strict):
    """The part of a recipe that says what its `review` sources may hold."""

    reviewers: Literal[1, 2] = Field(1, description="how many people must say the same of an item")
    own_rewrites: Literal["refuse", "allow"] = Field(
        "refuse", description="what happens when somebody approves an answer that they wrote themselves"
    )
    people: tuple[str, ...] = Field((), description="who may review; empty: whoever gives a name")
    lease_s: float = Field(900, gt=0, le=86_400, description="so long an item that somebody took is theirs alone")
    sample_share: float = Field(0.01, ge=0, le=1, description="of the requests that nothing else makes an item")
    disagree_below: float = Field(
        0.5, ge=0, le=1, description="stable and candidate disagree when their answers are less alike, from 0 to 1"
    )
    text_days: float = Field(30, gt=0, description="texts that nobody approved are erased when they are older")
    refresh_at: int | None = Field(
        None, ge=1, description="so many newly approved items make a scheduled refresh run; by default none do"
    )

    @model_validator(mode="after")
    def _enough_people(self) -> Self:
        needed = self.reviewers + (self.own_rewrites == "refuse")
        apart = {person_key(name) for name in self.people}
        if self.people and len(apart) < needed:
            why = f"{self.reviewers} must agree" + (", and nobody approves their own rewrite" if needed > 1 else "")
            raise ValueError(f"people names {len(apart)}: too few where {why} -> name at least {needed}")
        return self


def person_key(name: str) -> str:
    """What two spellings of one person's name have in common: neither case nor spacing makes two people of one."""
    return " ".join(name.split()).casefold()
