"""What the gateway measured about one attempt to answer one request: the raw material of every decision.

A logical request gives one record per attempt: `served` by the variant it was assigned to, `failover` by stable
after its own variant failed before the first content byte, `mirror` by a candidate whose answer nobody sees.
A `tester` got the variant that the table names for him. Only `served` and `mirror` attempts were assigned at random;
comparisons leave the others out.
"""

from typing import Literal

from pydantic import Field

from configs.strict import Strict

Role = Literal["served", "failover", "mirror", "tester"]


class Record(Strict):
    """One attempt. Times are UNIX seconds of the gateway's clock, durations seconds."""

    seq: int  # grows by one per record of this gateway process
    request_id: str
    route: str
    epoch: str  # the route's epoch when the request started
    variant: str
    role: Role
    user: str  # keyed hash of the user's key, or "" when there was none
    started_at: float
    duration_s: float
    ttft_s: float | None  # to the first content byte; None when there was none
    status: int  # upstream's HTTP status; 0 when there was none
    ok: bool
    error: str = ""  # connect, status, first_frame, empty, first_byte_timeout, idle_timeout, midstream, ...
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    streamed: bool = False
    user_ok: bool = True  # whether the user got a complete answer in the end (true for mirrors)
    # Per detector of the route's response contract: whether the answer breaks it. Absent: it could not be judged.
    verdicts: dict[str, bool] = Field(default_factory=dict)


class Feedback(Strict):
    """What a user said about an answer, tied to the attempt that gave it. Times are UNIX seconds."""

    seq: int  # of the same counter as the records', so that one cursor covers both
    request_id: str
    route: str
    epoch: str
    variant: str
    role: Role
    user: str
    started_at: float  # of the answered request
    at: float
    rating: Literal[-1, 0, 1] | None = None
    escalated: bool = False


class InFlight(Strict):
    """An attempt that has not ended: a hung candidate shows here before it shows anywhere else."""

    route: str
    epoch: str
    variant: str
    role: Role
    user: str
    started_at: float
    ttft_s: float | None = None  # None: no content yet


class Tripped(Strict):
    """A variant that failed so often in a row that its gateway gives it no more users. Times are UNIX seconds."""

    route: str
    epoch: str
    variant: str
    since: float  # when the first of the failed attempts started
    failures: int
    users: int
    error: str  # of the last one
    answered_elsewhere: int  # good answers of the route's other variants since: 0 when everything fails


class RecordPage(Strict):
    """An answer to `GET /admin/records?after=SEQ&limit=N`.

    `boot_id` changes when the gateway restarts and `seq` starts again at 1. `dropped` counts records after `after` that
    had left the ring before they were asked for.
    """

    boot_id: str
    now: float
    revision: int
    lease_remaining_s: float | None  # None when no share is leased
    records: tuple[Record, ...]
    feedback: tuple[Feedback, ...] = ()
    tripped: tuple[Tripped, ...] = ()  # now
    in_flight: tuple[InFlight, ...]
    dropped: int
    last_seq: int

    @property
    def newest_seq(self) -> int:
        """Of what is on this page; 0 when it is empty."""
        return max((item.seq for items in (self.records[-1:], self.feedback[-1:]) for item in items), default=0)
