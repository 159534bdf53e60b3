"""Recorded traffic, played back: which records, feedback and open requests a gateway would show at a moment.

A request belongs to the stage that the replay was in when it started. In shadow the candidate's mirrored requests
count, in every other stage all that it answered; stable's count as they are.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from configs.routing import RoutingTable
from delivery.traffic.breaker import Breaker
from delivery.traffic.records import Feedback, InFlight, Record, RecordPage, Role, Tripped

ROUTE = "replay"


@dataclass(frozen=True)
class Traffic:
    """Rows of one route in the order in which they ended, a list for each column (delivery.traffic.columns).

    Times are UNIX seconds. `by_start` holds the rows' numbers in the order in which they started.
    """

    is_feedback: Sequence[bool]
    request_id: Sequence[str]
    variant: Sequence[str]
    role: Sequence[Role]
    user: Sequence[str]
    started_at: Sequence[float]
    ended_at: Sequence[float]
    status: Sequence[int]
    ok: Sequence[bool]
    error: Sequence[str]
    ttft_s: Sequence[float | None]
    prompt_tokens: Sequence[int | None]
    completion_tokens: Sequence[int | None]
    user_ok: Sequence[bool]
    rating: Sequence[Any]  # -1, 0, 1 or None
    escalated: Sequence[bool]
    verdicts: Sequence[dict[str, bool]]
    by_start: Sequence[int]

    def __len__(self) -> int:
        return len(self.request_id)


@dataclass
class _Epoch:
    """From when the replay was in a stage, and which of the candidate's requests count there."""

    since: float
    name: str
    candidate_role: Role


class Playback:
    """One route's rows as the pages of a gateway; its clock goes forward only."""

    def __init__(self, traffic: Traffic, candidate: str, table: RoutingTable):
        self.began = self.now = min(traffic.started_at, default=0.0)
        self.ended = 0  # rows that had ended by now
        self.table = table
        self._traffic = traffic
        self._candidate = candidate
        self._started = 0  # rows that had started by now, in the order of `by_start`
        self._seq = 0
        self._open: dict[int, InFlight] = {}
        self._silent: set[int] = set()  # of the open ones: whose first content is still to come
        self._breaker = Breaker()
        self._epochs = [_Epoch(self.now, "before", "served")]
        self._starts = [self.now]

    @property
    def is_over(self) -> bool:
        """Whether every row had ended by now."""
        return self.ended == len(self._traffic)

    def serve(self, table: RoutingTable) -> None:
        """This table holds from now on."""
        self.table = table
        self._breaker.keep_only(table)

    def enter(self, epoch: str, candidate_role: Role) -> None:
        """What starts from now on belongs to this epoch."""
        if epoch != self._epochs[-1].name:
            self._epochs.append(_Epoch(self.now, epoch, candidate_role))
            self._starts.append(self.now)

    def page(self, now: float) -> RecordPage:
        """What a gateway would show at this time, UNIX seconds: everything that ended since the last page."""
        self.now = now
        traffic, first = self._traffic, self.ended
        self.ended = bisect_right(traffic.ended_at, self.now, lo=first)
        records: list[Record] = []
        feedback: list[Feedback] = []
        for row in range(first, self.ended):
            if self._open.pop(row, None) is not None:
                self._silent.discard(row)
            if not traffic.is_feedback[row]:
                record = self._record(row)
                self._breaker.observe(record)
                records.append(record)
            if traffic.rating[row] is not None or traffic.escalated[row]:
                feedback.append(self._feedback(row))
        self._look_for_open()
        return RecordPage(
            boot_id="log",
            now=self.now,
            revision=self.table.revision,
            lease_remaining_s=None,
            records=tuple(records),
            feedback=tuple(feedback),
            tripped=tuple(Tripped.model_validate(trip) for trip in self._breaker.page()),
            in_flight=tuple(self._open.values()),
            dropped=0,
            last_seq=self._seq,
        )

    def _look_for_open(self) -> None:
        """Adds what has started since and not ended."""
        traffic = self._traffic
        for row in [row for row in self._silent if self._has_begun(row)]:
            self._silent.remove(row)
            self._open[row] = self._open[row].model_copy(update={"ttft_s": traffic.ttft_s[row]})
        while self._started < len(traffic) and traffic.started_at[traffic.by_start[self._started]] <= self.now:
            row = traffic.by_start[self._started]
            self._started += 1
            if traffic.ended_at[row] > self.now and not traffic.is_feedback[row]:
                epoch, role = self._place(row)
                has_begun = self._has_begun(row)
                if not has_begun and traffic.ttft_s[row] is not None:
                    self._silent.add(row)
                self._open[row] = InFlight(
                    route=ROUTE,
                    epoch=epoch,
                    variant=traffic.variant[row],
                    role=role,
                    user=traffic.user[row],
                    started_at=traffic.started_at[row],
                    ttft_s=traffic.ttft_s[row] if has_begun else None,
                )

    def _has_begun(self, row: int) -> bool:
        """Whether its first content was there by now."""
        ttft_s = self._traffic.ttft_s[row]
        return ttft_s is not None and self._traffic.started_at[row] + ttft_s <= self.now

    def _place(self, row: int) -> tuple[str, Role]:
        """The replay's stage when a row started, and as what it counts there."""
        started_at = self._traffic.started_at[row]
        index = -1 if started_at >= self._starts[-1] else max(0, bisect_right(self._starts, started_at) - 1)
        epoch = self._epochs[index]
        role = self._traffic.role[row]
        counts = self._traffic.variant[row] == self._candidate and epoch.candidate_role == "served"
        return epoch.name, "served" if counts and role == "mirror" else role

    def _record(self, row: int) -> Record:
        traffic = self._traffic
        epoch, role = self._place(row)
        self._seq += 1
        started_at = traffic.started_at[row]
        return Record(
            seq=self._seq,
            request_id=traffic.request_id[row],
            route=ROUTE,
            epoch=epoch,
            variant=traffic.variant[row],
            role=role,
            user=traffic.user[row],
            started_at=started_at,
            duration_s=traffic.ended_at[row] - started_at,
            ttft_s=traffic.ttft_s[row],
            status=traffic.status[row],
            ok=traffic.ok[row],
            error=traffic.error[row],
            prompt_tokens=traffic.prompt_tokens[row],
            completion_tokens=traffic.completion_tokens[row],
            user_ok=traffic.user_ok[row],
            verdicts=traffic.verdicts[row],
        )

    def _feedback(self, row: int) -> Feedback:
        traffic = self._traffic
        epoch, role = self._place(row)
        self._seq += 1
        return Feedback(
            seq=self._seq,
            request_id=traffic.request_id[row],
            route=ROUTE,
            epoch=epoch,
            variant=traffic.variant[row],
            role=role,
            user=traffic.user[row],
            started_at=traffic.started_at[row],
            at=traffic.ended_at[row],
            rating=traffic.rating[row],
            escalated=traffic.escalated[row],
        )
