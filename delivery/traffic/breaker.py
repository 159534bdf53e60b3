"""A variant that fails every time costs users nothing: after a few failures in a row it is asked only by copies.

It decides nothing about a release: what tripped is shown to the controller, which judges by its own checks. A request
at which the variant that took over fails as well was the request's fault, and counts for no row; nor does one whose
client's own parameters decided what was said. A table with a new epoch starts afresh. A replay asks the same breaker.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from configs.routing import Route, RoutingTable, Trip
from delivery.traffic.records import TRIPPED, Record

PROBE_EVERY_S = 1.0  # these copies are all that the checks learn of a tripped variant
USERS_KEPT = 100
VariantEpoch = tuple[str, str, str]  # route, variant, epoch


@dataclass(slots=True)
class _Failures:
    epoch: str
    since: float  # when the first of them started, UNIX seconds
    in_a_row: int = 0
    who: dict[str, str] = field(default_factory=dict)  # users of the latest of them, by request id
    error: str = ""  # the last one's
    answered_elsewhere: int = 0  # good answers of the route's other variants since
    probed_at: float = float("-inf")

    def add(self, attempt: Record) -> None:
        self.in_a_row += 1
        self.error = attempt.error
        self.since = min(self.since, attempt.started_at)
        self.who[attempt.request_id] = attempt.user or attempt.request_id  # who is not known counts as somebody new
        if len(self.who) > USERS_KEPT:
            del self.who[next(iter(self.who))]

    def excuse(self, request_id: str) -> None:
        """The variant that took over failed too."""
        if self.who.pop(request_id, None) is not None:
            self.in_a_row -= 1

    @property
    def users(self) -> int:
        return len(set(self.who.values()))

    def has_tripped(self, trip: Trip) -> bool:
        return self.in_a_row >= trip.failures and self.users >= min(trip.users, USERS_KEPT)


class Breaker:
    """Counts failures in a row, per route and variant, within the route's epoch."""

    def __init__(self) -> None:
        self._failing: dict[tuple[str, str], _Failures] = {}
        self._trips: dict[str, Trip] = {}  # by route
        self._imposed: dict[VariantEpoch, float] = {}  # when a copy was sent there last
        self._excused: dict[str, None] = {}  # ids of the latest requests at which a variant that took over failed too

    def observe(self, attempt: Record) -> None:
        """One attempt has ended."""
        place = (attempt.route, attempt.variant)
        if attempt.error == TRIPPED or attempt.forced:
            return
        if attempt.ok:
            if self._failing and not attempt.error:
                self._answered(attempt)
                self._failing.pop(place, None)
            return
        if attempt.role == "failover":
            self._excuse(attempt)
        elif attempt.request_id in self._excused:
            return
        seen = self._failing.get(place)
        if seen is None or seen.epoch != attempt.epoch:
            seen = self._failing[place] = _Failures(attempt.epoch, attempt.started_at)
        seen.add(attempt)

    def _answered(self, attempt: Record) -> None:
        for (name, variant), seen in self._failing.items():
            elsewhere = name == attempt.route and variant != attempt.variant and seen.epoch == attempt.epoch
            seen.answered_elsewhere += elsewhere

    def _excuse(self, attempt: Record) -> None:
        """Both go on record together, in either order."""
        self._excused[attempt.request_id] = None
        if len(self._excused) > USERS_KEPT:
            del self._excused[next(iter(self._excused))]
        for (name, _), seen in self._failing.items():
            if name == attempt.route and seen.epoch == attempt.epoch:
                seen.excuse(attempt.request_id)

    def is_tripped(self, name: str, route: Route, variant: str) -> bool:
        """Whether users' first attempts should go elsewhere."""
        if self._imposed and (name, variant, route.epoch) in self._imposed:
            return True
        seen = self._failing.get((name, variant)) if self._failing else None
        return seen is not None and seen.epoch == route.epoch and seen.has_tripped(route.trip)

    def probe_due(self, name: str, variant: str, now: float) -> bool:
        """Whether a copy should be sent to a tripped variant now; True once every PROBE_EVERY_S."""
        seen = self._failing.get((name, variant))
        imposed = [place for place in self._imposed if place[:2] == (name, variant)]
        last = max([seen.probed_at if seen else float("-inf"), *(self._imposed[place] for place in imposed)])
        if now - last < PROBE_EVERY_S:
            return False
        if seen is not None:
            seen.probed_at = now
        self._imposed.update(dict.fromkeys(imposed, now))
        return True

    def impose(self, places: Iterable[VariantEpoch]) -> None:
        """Exactly these are tripped, whatever was seen here: the processes that share the users have seen more."""
        self._imposed = {place: self._imposed.get(place, float("-inf")) for place in places}

    def heal(self, places: Iterable[VariantEpoch]) -> None:
        """These answered somewhere else: what failed here in a row was no row."""
        for name, variant, epoch in places:
            seen = self._failing.get((name, variant))
            if seen is not None and seen.epoch == epoch:
                del self._failing[name, variant]

    def places(self) -> list[VariantEpoch]:
        """What is tripped by what was seen here."""
        return [(name, variant, seen.epoch) for (name, variant), seen in self._tripped()]

    def tripped(self) -> list[tuple[str, str]]:
        """(route, variant) of all that are tripped."""
        return [place for place, _ in self._tripped()]

    def page(self) -> list[dict[str, Any]]:
        """The part of a `RecordPage` that says what is tripped."""
        return [
            {
                "route": name,
                "epoch": seen.epoch,
                "variant": variant,
                "since": seen.since,
                "failures": seen.in_a_row,
                "users": seen.users,
                "error": seen.error,
                "answered_elsewhere": seen.answered_elsewhere,
            }
            for (name, variant), seen in self._tripped()
        ]

    def _tripped(self) -> Iterator[tuple[tuple[str, str], _Failures]]:
        for place, seen in self._failing.items():
            if place[0] in self._trips and seen.has_tripped(self._trips[place[0]]):
                yield place, seen

    def keep_only(self, table: RoutingTable) -> None:
        """Forgets variants that are served no more, and earlier epochs."""
        self._trips = {name: route.trip for name, route in table.routes.items()}
        self._failing = {
            (name, variant): seen
            for (name, variant), seen in self._failing.items()
            if name in table.routes
            and variant in table.routes[name].variants
            and table.routes[name].epoch == seen.epoch
        }
