"""What the gateway measured about one attempt to answer one request: the raw material of every decision.

A logical request gives one record per attempt: `served` by the variant it was assigned to, `failover` by stable
after its own variant failed before the first content byte, `mirror` by a candidate whose answer nobody sees.
A `tester` got the variant that the table names for him. Only `served` and `mirror` attempts were assigned at random;
comparisons leave the others out.

A field is spelled here and nowhere else: the gateway's attempts inherit it, and its JSON, the merged pages of several
workers, the columns of the traffic log and a replay take it from here. `Column` says what the log calls it.
"""

from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter

from configs.strict import Strict

TRIPPED = "tripped"  # the error of an attempt that was not made: its variant had failed too often in a row
AttemptRole = Literal["served", "failover", "mirror", "tester"]
Rating = Literal[-1, 0, 1]
ColumnKind = Literal["text", "time", "number", "whole", "flag"]


@dataclass(frozen=True)
class Column:
    """A column of the traffic log. `needed`: a log without it cannot be replayed; all others may be missing or null."""

    kind: ColumnKind
    meaning: str
    needed: bool = False
    name: str = ""


RequestId = Annotated[str, Column("text", "of the user's request; all its attempts and feedback share it", needed=True)]


@dataclass(slots=True, kw_only=True)
class Assigned:
    """Who was to answer whom. Times are UNIX seconds of the gateway's clock, in everything below too."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    route: Annotated[str, Column("text", "the model name that the client asked for")]
    epoch: Annotated[str, Column("text", "the route's epoch when the request started")]
    variant: Annotated[str, Column("text", "who answered, or should have", needed=True)]
    role: Annotated[
        AttemptRole,
        Column(
            "text",
            "`served` (the default), `failover` (stable in another's place), `mirror` (nobody saw it) or `tester`",
        ),
    ]
    user: Annotated[str, Column("text", "keyed hash of the user's key; empty: nobody known")]
    started_at: Annotated[float, Column("time", "when the attempt began", needed=True)]
    vouched: Annotated[
        bool, Column("flag", "whether an API key, or the operator's word, stands behind the user's name; default true")
    ] = True


@dataclass(slots=True, kw_only=True)
class InFlight(Assigned):
    """An attempt that has not ended: a hung candidate shows here before it shows anywhere else."""

    ttft_s: Annotated[
        float | None,
        Column("number", "seconds to the first content, of a plain answer to all of it; null: none came"),
    ] = None


@dataclass(slots=True, kw_only=True)
class Record(InFlight):
    """One attempt that has ended. Durations are seconds."""

    seq: int  # grows by one per record of this gateway process
    request_id: RequestId
    duration_s: float  # the log holds `ended_at` instead
    status: Annotated[int, Column("whole", "HTTP status of the model's server; 0: there was none", needed=True)]
    ok: Annotated[bool, Column("flag", "whether the variant did its part; by default: status 200 to 299 and no error")]
    error: Annotated[
        str,
        Column("text", "why not: `connect`, `status`, `first_byte_timeout`, `midstream`...; also `client_closed`"),
    ] = ""
    prompt_tokens: Annotated[int | None, Column("whole", "as the model's server counted them")] = None
    completion_tokens: Annotated[int | None, Column("whole", "as the model's server counted them")] = None
    finish_reason: Annotated[
        str, Column("text", "why the answer ended, in OpenAI's words: `stop`, `length`...; empty: nobody said")
    ] = ""
    forced: Annotated[
        bool, Column("flag", "whether the client's own parameters, not the model, decided what was said; default false")
    ] = False
    streamed: Annotated[bool, Column("flag", "whether the answer was streamed")] = False
    user_ok: Annotated[
        bool,
        Column("flag", "false where the user got no complete answer in the end, once a request; default true"),
    ] = True
    # Per detector of the route's response contract: whether the answer breaks it. Absent: it could not be judged.
    verdicts: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Feedback(Assigned):
    """What a user said about an answer, tied to the attempt that gave it; `started_at` is the answered request's."""

    seq: int  # of the same counter as the records', so that one cursor covers both
    request_id: RequestId
    at: float
    rating: Annotated[Rating | None, Column("whole", "-1, 0 or 1; null: none was given")] = None
    escalated: Annotated[bool, Column("flag", "whether the user asked for a person")] = False


class Tripped(Strict):
    """A variant that failed so often in a row that its gateway gives it no more users. Times are UNIX seconds.

    It protects users and proves nothing: copies of their requests go on asking the variant, and the first that is
    answered gives it its users back.
    """

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


T = TypeVar("T", bound=Assigned)
_ADAPTERS: dict[type[Assigned], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Record, Feedback, InFlight)}


def checked(kind: type[T], values: Any) -> T:
    """One of these from its JSON. Raises pydantic's ValidationError."""
    found = _ADAPTERS[kind].validate_python(values)
    if not isinstance(found, kind):
        raise TypeError(f"{kind.__name__} has an adapter of another type")
    return found


def names(kind: type[Assigned]) -> tuple[str, ...]:
    """The names of its fields."""
    return tuple(one.name for one in fields(kind))


def defaults(kind: type[Assigned]) -> dict[str, Any]:
    """What its fields are where nothing is said, as far as they may be left out."""
    return {one.name: one.default for one in fields(kind) if one.default is not MISSING}


def part(kind: type[T], whole: Any, **changed: Any) -> T:
    """One of these from something that has its fields, but for those that are changed."""
    return kind(**{name: getattr(whole, name) for name in names(kind) if name not in changed}, **changed)


def columns_of(kind: type[Assigned]) -> tuple[Column, ...]:
    """Those of its fields that the traffic log holds under their own names."""
    hints = get_type_hints(kind, include_extras=True)
    found = {name: notes[0] for name in names(kind) if (notes := getattr(hints[name], "__metadata__", ()))}
    return tuple(Column(one.kind, one.meaning, one.needed, name) for name, one in found.items())
