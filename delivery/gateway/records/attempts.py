"""What is going on and what went on: every attempt to answer, while it lasts and in a ring afterwards.

An attempt's `ok` says that its variant did not fail: an answer that the client did not wait for (`client_closed`,
`client_stalled`), a request that the model declined as the client's own mistake (`declined`) or a fault of the
gateway's own code (`internal_error`) is no failure of the variant's.
So is `exhausted`: this process may open no more connections, and could not ask it.
`user_ok` is False where the gateway gave up on a user, at most once a request: a failed attempt that stable takes over
keeps True.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from delivery.gateway.openai.answers import Gist
from delivery.gateway.openai.call import Call
from delivery.gateway.openai.contract import Judges, Said
from delivery.gateway.openai.forced import is_end_forced
from delivery.gateway.table.served import Clock
from delivery.traffic.assignment import is_captured
from delivery.traffic.records import Assigned, AttemptRole, Feedback, InFlight, Rating, Record, names
from evals.contract import ContractJudgement

EXHAUSTED = "exhausted"
EMPTY = "empty"


@dataclass(slots=True, kw_only=True, eq=False)
class Attempt(Record):
    """A record in the making, and what nobody but the gateway has to know about it. Equal to itself alone."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    began: float  # monotonic
    upstream: str = ""  # the base URL that is being asked
    unjudged: tuple[str, ...] = ()  # detectors that would have taken too long
    client: str = ""  # the name of the API key
    sent_bytes: int = 0
    chunks: int = 0  # of a stream, with content
    rating: Rating | None = None
    escalated: bool = False
    call: Call | None = None  # until the attempt is on record, as what was said
    said: Said | None = None

    def start_over(self, upstream: str) -> None:
        """This replica is asked; what the one before had begun to say counts for nothing."""
        self.upstream = upstream
        self.status = self.chunks = 0
        self.finish_reason, self.forced = "", self.call is not None and self.call.decides
        self.prompt_tokens = self.completion_tokens = None
        if self.said is not None:
            self.said = Said()

    def ended_by(self, gist: Gist) -> None:
        """A choice has ended, the first one or another."""
        if self.finish_reason or self.call is None:
            return
        body, self.finish_reason = self.call.body, gist.finish_reason
        has_content = gist.has_content or self.chunks > 0
        if not self.forced and is_end_forced(body, gist.finish_reason, gist.stopped_by, has_content=has_content):
            self.forced = True

    @property
    def says_nothing_by_force(self) -> bool:
        """Whether an answer without content is what its client asked for."""
        return self.forced and bool(self.finish_reason)

    def fail(self, kind: str) -> None:
        """The variant failed, or could not be asked."""
        self.ok = kind == EXHAUSTED
        self.error = kind


@dataclass(slots=True, kw_only=True)
class Given(Feedback):
    """Feedback on an answer; `rating` None: none was given now."""

    about: Attempt
    comment: str | None


Observer = Callable[[Attempt], None]


def as_dict(wanted: Sequence[str]) -> Callable[[Any], dict[str, Any]]:
    """Makes a dict of these attributes, which are looked up in C: one such call sits in the way of every request."""
    read = attrgetter(*wanted)
    return lambda item: dict(zip(wanted, read(item), strict=True))


_ASSIGNED, _IN_FLIGHT, _RECORD, _FEEDBACK = (as_dict(names(kind)) for kind in (Assigned, InFlight, Record, Feedback))


class Attempts:
    """Begins and ends attempts; `observers` are told of each end."""

    def __init__(
        self,
        kept: int,
        observers: Sequence[Observer] = (),
        *,
        keeps_text: bool = False,
        listeners: Sequence[Callable[[Given], None]] = (),
        monotonic: Clock = time.monotonic,
        wall: Clock = time.time,
    ):
        self.boot_id = secrets.token_hex(8)
        self.in_flight: set[Attempt] = set()
        self.last_seq = 0
        self.judges = Judges()
        self._ring: list[Attempt | Given] = []
        self._answered: dict[str, Attempt] = {}  # by request id, as long as they are in the ring
        self._keeps_text = keeps_text
        self._listeners = tuple(listeners)
        self._kept = kept
        self._observers = tuple(observers)
        self.monotonic = monotonic
        self.wall = wall

    def begin(self, call: Call, variant: str, role: AttemptRole) -> Attempt:
        """An attempt that starts now."""
        attempt = Attempt(
            request_id=call.request_id,
            route=call.name,
            epoch=call.route.epoch,
            variant=variant,
            role=role,
            user=call.user,
            streamed=call.stream,
            started_at=self.wall(),
            began=self.monotonic(),
            seq=0,
            duration_s=0.0,
            status=0,
            ok=True,
            vouched=call.vouched,
            forced=call.decides,
            call=call,
            said=Said() if self._needs_text(call) else None,
            client=call.client,
        )
        self.in_flight.add(attempt)
        return attempt

    def _needs_text(self, call: Call) -> bool:
        route = call.route
        if route.contract is not None or self._keeps_text:
            return True
        return route.candidate is not None and is_captured(route, call.request_id)

    def first_content(self, attempt: Attempt) -> None:
        """The first content byte is there."""
        attempt.ttft_s = self.monotonic() - attempt.began

    def stop(self, attempt: Attempt) -> None:
        """The attempt is over, and will be filed later."""
        attempt.duration_s = self.monotonic() - attempt.began
        self.in_flight.discard(attempt)

    def end(self, attempt: Attempt) -> None:
        """The attempt is over. It is judged and on record in the event loop's next turn: the user's bytes go first."""
        attempt.duration_s = self.monotonic() - attempt.began
        if attempt.said is not None and attempt.ok and not attempt.error:
            asyncio.get_running_loop().call_soon(self._judge, attempt)
        else:
            self.file(attempt)

    def _judge(self, attempt: Attempt) -> None:
        contract = attempt.call.route.contract if attempt.call is not None else None
        if contract is None or attempt.said is None:
            self.file(attempt)
        else:
            self.judges.judge(contract, attempt.said, attempt.request_id, partial(self._judged, attempt))

    def _judged(self, attempt: Attempt, found: ContractJudgement) -> None:
        attempt.verdicts, attempt.unjudged = found
        self.file(attempt)

    async def settle(self, seconds: float) -> None:
        """Waits for answers that are being judged, not longer than this."""
        until = self.monotonic() + seconds
        while self.judges.waiting and self.monotonic() < until:
            await asyncio.sleep(0.01)
        self.judges.close()

    def file(self, attempt: Attempt) -> None:
        """One that is over goes on record."""
        self.in_flight.discard(attempt)
        attempt.seq = self._keep(attempt)
        if attempt.ok and attempt.role != "mirror":
            self._answered[attempt.request_id] = attempt
        for observe in self._observers:
            observe(attempt)
        attempt.call = attempt.said = None

    def _keep(self, item: Attempt | Given) -> int:
        """Into the ring, in place of the oldest; the item's number."""
        self.last_seq += 1
        if len(self._ring) < self._kept:
            self._ring.append(item)
            return self.last_seq
        place = (self.last_seq - 1) % self._kept
        former, self._ring[place] = self._ring[place], item
        if isinstance(former, Attempt) and self._answered.get(former.request_id) is former:
            del self._answered[former.request_id]
        return self.last_seq

    def answer_of(self, request_id: str) -> Attempt | None:
        """The attempt that answered this request, as long as it is remembered."""
        return self._answered.get(request_id)

    def tell(self, about: Attempt, *, rating: Rating | None, escalated: bool, comment: str | None) -> None:
        """Puts feedback on record, in the order of everything else."""
        given = Given(
            **_ASSIGNED(about),
            request_id=about.request_id,
            seq=self.last_seq + 1,
            at=self.wall(),
            rating=rating,
            escalated=escalated,
            about=about,
            comment=comment,
        )
        self._keep(given)
        about.rating = about.rating if rating is None else rating
        about.escalated = about.escalated or escalated
        for listen in self._listeners:
            listen(given)

    def page(self, after: int, limit: int) -> dict[str, Any]:
        """The part of a `RecordPage` that is about attempts: at most `limit` that ended after `after`, oldest first."""
        oldest = self.last_seq - len(self._ring) + 1
        first = max(after + 1, oldest)
        stop = min(first + limit, self.last_seq + 1)
        found = [self._ring[(seq - 1) % self._kept] for seq in range(first, stop)]
        return {
            "boot_id": self.boot_id,
            "now": self.wall(),
            "records": [_RECORD(item) for item in found if isinstance(item, Attempt)],
            "feedback": [_FEEDBACK(item) for item in found if isinstance(item, Given)],
            "in_flight": [_IN_FLIGHT(attempt) for attempt in self.in_flight],
            "dropped": max(0, first - (after + 1)) if after <= self.last_seq else 0,
            "last_seq": self.last_seq,
        }
