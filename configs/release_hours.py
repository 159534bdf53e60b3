"""When releases of a route may begin: days and hours on the clock of one place."""

from datetime import time
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from configs.strict import Strict

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class ReleaseHours(Strict):
    """From `opens` until `closes` on these days; one that closes before it opens closes on the next day."""

    timezone: str = Field("UTC", description="a name of the IANA database: Europe/Berlin")
    days: tuple[Day, ...] = Field(DAYS, min_length=1)
    opens: time = Field(description="HH:MM, quoted")
    closes: time = Field(description="HH:MM, quoted")
    wait_at_most_s: float = Field(4 * 86_400.0, ge=0, description="hours that open later than in so long: refused")

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"no such timezone: {name!r} -> e.g. UTC, Europe/Berlin, America/New_York") from error
        return name
