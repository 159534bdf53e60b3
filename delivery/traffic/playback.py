"""Recorded traffic, played back: which records, feedback and open requests a gateway would show at a moment.

A request belongs to the stage that the replay was in when it started. In shadow the candidate's mirrored requests
count, in every other stage all that it answered; stable's count as they are.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from configs.routing import RoutingTable
from delivery.traffic.breaker import Breaker
from delivery.traffic.records import AttemptRole, Feedback, InFlight, Rating, Record, RecordPage, Tripped, part

ROUTE = "replay"


@dataclass(frozen=True)
class Traffic:
    """Rows of one route in the order in which they ended: a record for each, and what only the log has of it.

    Times are UNIX seconds. `by_start` holds the rows' numbers in the order in which they started. A row of feedback has
    the record of its answer, as far as the log repeats it.
    """

    records: Sequence[Record]
    ended_at: Sequence[float]
    is_feedback: Sequence[bool]
    rating: Sequence[Rating | None]
    escalated: Sequence[bool]
    by_start: Sequence[int]

    def __len__(self) -> int:
        return len(self.records)

    def feedback(self, row: int, seq: int, epoch: str, role: AttemptRole) -> Feedback:
        """What was said of this row's answer, or in this row about one."""
        given = {"at": self.ended_at[row], "rating": self.rating[row], "escalated": self.escalated[row]}
        return part(Feedback, self.records[row], seq=seq, epoch=epoch, role=role, **given)


@dataclass
class _Epoch:
    """From when the replay was in a stage, and which of the candidate's requests count there."""

    since: float
    name: str
    candidate_role: AttemptRole


class Playback:
    """One route's rows as the pages of a gateway; its clock goes forward only."""

    def __init__(self, traffic: Traffic, candidate: str, table: RoutingTable):
        self.began = self.now = min((record.started_at for record in traffic.records), default=0.0)
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

    def enter(self, epoch: str, candidate_role: AttemptRole) -> None:
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
            epoch, role = self._place(row)
            if not traffic.is_feedback[row]:
                self._seq += 1
                record = replace(traffic.records[row], seq=self._seq, route=ROUTE, epoch=epoch, role=role)
                self._breaker.observe(record)
                records.append(record)
            if traffic.rating[row] is not None or traffic.escalated[row]:
                self._seq += 1
                feedback.append(traffic.feedback(row, self._seq, epoch, role))
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
        traffic, records = self._traffic, self._traffic.records
        for row in [row for row in self._silent if self._has_begun(row)]:
            self._silent.remove(row)
            self._open[row] = replace(self._open[row], ttft_s=records[row].ttft_s)
        while self._started < len(traffic) and records[traffic.by_start[self._started]].started_at <= self.now:
            row = traffic.by_start[self._started]
            self._started += 1
            if traffic.ended_at[row] > self.now and not traffic.is_feedback[row]:
                epoch, role = self._place(row)
                has_begun = self._has_begun(row)
                ttft_s = records[row].ttft_s
                if not has_begun and ttft_s is not None:
                    self._silent.add(row)
                so_far = {"route": ROUTE, "epoch": epoch, "role": role, "ttft_s": ttft_s if has_begun else None}
                self._open[row] = part(InFlight, records[row], **so_far)

    def _has_begun(self, row: int) -> bool:
        """Whether its first content was there by now."""
        record = self._traffic.records[row]
        return record.ttft_s is not None and record.started_at + record.ttft_s <= self.now

    def _place(self, row: int) -> tuple[str, AttemptRole]:
        """The replay's stage when a row started, and as what it counts there."""
        record = self._traffic.records[row]
        is_last = record.started_at >= self._starts[-1]
        epoch = self._epochs[-1 if is_last else max(0, bisect_right(self._starts, record.started_at) - 1)]
        counts = record.variant == self._candidate and epoch.candidate_role == "served"
        return epoch.name, "served" if counts and record.role == "mirror" else record.role
