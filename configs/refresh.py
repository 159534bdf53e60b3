"""What starts a refresh besides a changed input and a filled review queue: other requests than before."""

from pathlib import Path

from pydantic import Field

from configs.strict import Strict


class Drift(Strict):
    """How the requests since the last refresh are compared with those before it."""

    false_alarm_rate: float = Field(
        0.01, ge=0.001, le=0.2, description="at most in so many looks it says drift though nothing drifted"
    )
    min_users: int = Field(200, ge=20, description="with fewer users on either side nothing is said")
    max_users: int = Field(2000, ge=20, le=20_000, description="of more users so many are compared, chosen at random")
    log: Path | None = Field(
        None, description="a traffic log's file or folder; by default that of the environment's own gateway"
    )


class Refresh(Strict):
    """The part of a recipe that says when a scheduled refresh has something to do."""

    drift: Drift | None = Field(None, description="without it nobody looks whether requests drift")
