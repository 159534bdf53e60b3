"""Several workers' records as one sequence with one cursor, for `GET /admin/records`: pure, with `now` passed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from delivery.traffic.records import Record, checked

MergedItem = dict[str, Any]  # a record or a feedback, as a worker's page shows it, under its new `seq`
WORKER_DIED = "worker_died"


@dataclass
class _Source:
    """One worker process, as it was when it was last heard."""

    cursor: int = 0
    last_seq: int = 0
    now: float = 0.0
    in_flight: list[dict[str, Any]] = field(default_factory=list)


class MergedRecords:
    """At most `kept` items. A source is one process: its successor is another source."""

    def __init__(self, kept: int, boot_id: str):
        self.boot_id = boot_id
        self.last_seq = 0
        self._kept = kept
        self._ring: list[MergedItem | None] = []  # None: lost before it could be read
        self._answered: dict[str, int] = {}  # request id -> source, as long as it is in the ring
        self._sources: dict[int, _Source] = {}
        self._now = 0.0

    def began(self, source: int, now: float) -> None:
        """A process that has answered nothing yet."""
        self._sources[source] = _Source(now=now)

    def cursor(self, source: int) -> int:
        """Up to where its records are here."""
        return self._sources[source].cursor

    def add(self, source: int, page: Mapping[str, Any]) -> list[Record]:
        """Takes a page that was asked for with `after=cursor(source)`; the records on it."""
        seen = self._sources[source]
        for _ in range(min(page["dropped"], self._kept)):
            self._keep(None, source)
        items = sorted([*page["records"], *page["feedback"]], key=lambda item: item["seq"])
        newest = items[-1]["seq"] if items else seen.cursor
        for item in items:
            self._keep(item, source)
        seen.cursor, seen.last_seq = newest, page["last_seq"]
        seen.now, seen.in_flight = page["now"], page["in_flight"]
        return [checked(Record, item) for item in page["records"]]

    def is_behind(self, source: int) -> bool:
        """Whether the process had more to tell than its last page held."""
        seen = self._sources[source]
        return seen.cursor < seen.last_seq

    def ended(self, source: int, now: float) -> list[Record]:
        """The process is no more. What its users were waiting for when it was last heard goes on record as lost."""
        lost = [_lost(item, now) for item in self._sources.pop(source).in_flight if item["role"] != "mirror"]
        for item in lost:
            self._keep(item, source)
        return [checked(Record, item) for item in lost]

    def source_of(self, request_id: str) -> int | None:
        """The process that answered this request, if it still lives."""
        source = self._answered.get(request_id)
        return source if source in self._sources else None

    def in_flight(self) -> list[dict[str, Any]]:
        """What is under way in all of them."""
        return [item for seen in self._sources.values() for item in seen.in_flight]

    def page(self, after: int, limit: int) -> dict[str, Any]:
        """The part of a `RecordPage` that is about attempts. `now`: up to then every process has told everything."""
        self._now = min((seen.now for seen in self._sources.values()), default=self._now)
        oldest = self.last_seq - len(self._ring) + 1
        first = max(after + 1, oldest)
        stop = min(first + limit, self.last_seq + 1)
        found = [self._ring[(seq - 1) % self._kept] for seq in range(first, stop)]
        return {
            "boot_id": self.boot_id,
            "now": self._now,
            "records": [item for item in found if item is not None and "ok" in item],
            "feedback": [item for item in found if item is not None and "ok" not in item],
            "in_flight": self.in_flight(),
            "dropped": (max(0, first - (after + 1)) if after <= self.last_seq else 0) + found.count(None),
            "last_seq": self.last_seq,
        }

    def _keep(self, item: MergedItem | None, source: int) -> None:
        """Into the ring, in place of the oldest."""
        self.last_seq += 1
        if item is not None:
            item["seq"] = self.last_seq
            if _is_answer(item):
                self._answered[item["request_id"]] = source
        if len(self._ring) < self._kept:
            self._ring.append(item)
            return
        place = (self.last_seq - 1) % self._kept
        former, self._ring[place] = self._ring[place], item
        if former is not None and _is_answer(former):
            self._answered.pop(former["request_id"], None)


def _is_answer(item: MergedItem) -> bool:
    """Whether users may rate it."""
    return bool(item.get("ok") and item["role"] != "mirror" and item["request_id"])


def _lost(item: Mapping[str, Any], now: float) -> MergedItem:
    """Its variant did not fail; its user got no complete answer."""
    return {
        **item,
        "request_id": "",
        "duration_s": max(0.0, now - item["started_at"]),
        "status": 0,
        "ok": True,
        "error": WORKER_DIED,
        "user_ok": False,
    }
