"""What stable and the candidate said to the same request, in memory for whoever compares them: no disk, no user's wait.

Only where the table asks for it (`capture_bp`), and only as long as it does: with the table that ends it, or begins
another epoch, the texts are gone. What is kept is bounded in number and bytes; the oldest goes first.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from configs.routing import RoutingTable
from delivery.gateway.records.attempts import Attempt
from delivery.gateway.records.redaction import Redactor
from delivery.traffic.assignment import is_captured

KEPT = 1000
KEPT_BYTES = 16 * 2**20
WAITING = 4000  # answers whose other half is still to come
WAITING_BYTES = 16 * 2**20
MOST_BYTES = 64 * 1024  # of a request's messages; a larger one is left out

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """So many values of so many bytes; the oldest go first."""

    def __init__(self, most: int, most_bytes: int):
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._most, self._most_bytes = most, most_bytes
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: K, value: V, size: int) -> None:
        """Adds it, in place of the oldest if need be."""
        self.pop(key)
        self._values[key] = value, size
        self.bytes += size
        while len(self._values) > self._most or self.bytes > self._most_bytes:
            self.pop(next(iter(self._values)))

    def pop(self, key: K) -> V | None:
        """Takes it out, if it is there."""
        found = self._values.pop(key, None)
        if found is None:
            return None
        self.bytes -= found[1]
        return found[0]

    def items(self) -> list[tuple[K, V]]:
        """All, oldest first."""
        return [(key, value) for key, (value, _) in self._values.items()]


@dataclass(frozen=True, slots=True)
class KeptHalf:
    """One answer, with the messages that it answers as JSON."""

    role: str
    place: tuple[str, str]  # route, epoch
    user: str
    started_at: float
    asked: bytes
    text: str

    @property
    def size(self) -> int:
        """In bytes, about."""
        return len(self.asked) + 4 * len(self.text)


KeptPair = tuple[int, str, KeptHalf, KeptHalf]
"""Number, request id, stable's half, the candidate's."""


class Pairs:
    """Observes attempts. `boot_id` is another one in every process, where numbers begin again at 1."""

    def __init__(
        self,
        redactor: Redactor,
        *,
        kept: int = KEPT,
        kept_bytes: int = KEPT_BYTES,
        waiting: int = WAITING,
        waiting_bytes: int = WAITING_BYTES,
    ):
        self.boot_id = secrets.token_hex(8)
        self._redactor = redactor
        self._open: frozenset[tuple[str, str]] = frozenset()  # (route, epoch) of which texts are kept
        self._waiting: Bounded[str, KeptHalf] = Bounded(waiting, waiting_bytes)
        self._kept: Bounded[int, KeptPair] = Bounded(kept, kept_bytes)
        self._last_seq = self._left_out = 0

    def keep_only(self, table: RoutingTable) -> None:
        """Forgets what this table does not ask for."""
        self._open = captured(table)
        for request_id, half in self._waiting.items():
            if half.place not in self._open:
                self._waiting.pop(request_id)
        for seq, (_, _, half, _) in self._kept.items():
            if half.place not in self._open:
                self._kept.pop(seq)

    def observe(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        if self._open and attempt.said is not None and attempt.call is not None:
            self._add(attempt)

    def _add(self, attempt: Attempt) -> None:
        place, call = (attempt.route, attempt.epoch), attempt.call
        if call is None or attempt.said is None or place not in self._open or attempt.role not in ("served", "mirror"):
            return
        if not is_captured(call.route, call.request_id):
            return
        if not attempt.ok or attempt.error:
            self._waiting.pop(attempt.request_id)
            return
        other = self._waiting.pop(attempt.request_id)
        asked = other.asked if other is not None else call.asked()
        if len(asked) > MOST_BYTES:
            self._left_out += attempt.role == "served"  # once for both halves
            return
        half = KeptHalf(attempt.role, place, attempt.user, attempt.started_at, asked, attempt.said.text)
        if other is None or other.role == half.role:
            self._waiting.put(attempt.request_id, half, half.size)
        elif half.text or other.text:
            stable, candidate = (half, other) if half.role == "served" else (other, half)
            self._last_seq += 1
            kept = self._last_seq, attempt.request_id, stable, candidate
            self._kept.put(self._last_seq, kept, half.size + other.size)

    def after(self, seq: int, most: int) -> list[KeptPair]:
        """The oldest of what is kept after this number."""
        return [kept for number, kept in self._kept.items() if number > seq][:most]

    async def read(self, after: int, limit: int) -> dict[str, Any]:
        """A `PairPage` of the oldest after this number; made beside the event loop."""
        return await asyncio.to_thread(self.page, self.after(after, limit))

    def page(self, found: list[KeptPair]) -> dict[str, Any]:
        """A `PairPage` of these. It redacts: not for the event loop."""
        pairs = [
            {
                "seq": seq,
                "request_id": request_id,
                "route": candidate.place[0],
                "epoch": candidate.place[1],
                "user": candidate.user,
                "started_at": candidate.started_at,
                "asked": self._redactor.of(orjson.loads(candidate.asked)),
                "stable": self._redactor.of(stable.text),
                "candidate": self._redactor.of(candidate.text),
            }
            for seq, request_id, stable, candidate in found
        ]
        return {"boot_id": self.boot_id, "pairs": pairs, "last_seq": self._last_seq, "left_out": self._left_out}


def captured(table: RoutingTable) -> frozenset[tuple[str, str]]:
    """(route, epoch) of all whose texts the table asks for."""
    return frozenset(
        (name, route.epoch)
        for name, route in table.routes.items()
        if route.candidate is not None and route.candidate.capture_bp
    )
