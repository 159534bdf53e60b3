"""A variant that fails every time costs users nothing: after a few failures in a row it is asked only by copies.

It decides nothing about a release: the controller does, and a table with a new epoch starts afresh.
"""

from dataclasses import dataclass

from configs.routing import Route, RoutingTable
from delivery.gateway.attempts import Attempt

PROBE_EVERY_S = 5.0


@dataclass(slots=True)
class _Failures:
    epoch: str
    in_a_row: int
    probed_at: float


class Breaker:
    """Counts failures in a row, per route and variant, within the route's epoch."""

    def __init__(self, trip_after: int):
        self._trip_after = trip_after
        self._failing: dict[tuple[str, str], _Failures] = {}

    def observe(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        place = (attempt.route, attempt.variant)
        if attempt.error == "tripped":
            return
        if attempt.ok:
            if self._failing and not attempt.error:
                self._failing.pop(place, None)
            return
        seen = self._failing.get(place)
        if seen is None or seen.epoch != attempt.epoch:
            seen = self._failing[place] = _Failures(attempt.epoch, 0, float("-inf"))
        seen.in_a_row += 1

    def is_tripped(self, name: str, route: Route, variant: str) -> bool:
        """Whether users' first attempts should go elsewhere."""
        seen = self._failing.get((name, variant)) if self._failing else None
        return seen is not None and seen.epoch == route.epoch and seen.in_a_row >= self._trip_after

    def probe_due(self, name: str, variant: str, now: float) -> bool:
        """Whether a copy should be sent to a tripped variant now; True once every PROBE_EVERY_S."""
        seen = self._failing[name, variant]
        due = now - seen.probed_at >= PROBE_EVERY_S
        if due:
            seen.probed_at = now
        return due

    def tripped(self) -> list[tuple[str, str]]:
        """(route, variant) of all that are tripped."""
        return [place for place, seen in self._failing.items() if seen.in_a_row >= self._trip_after]

    def keep_only(self, table: RoutingTable) -> None:
        """Forgets variants that are served no more, and earlier epochs."""
        self._failing = {
            (name, variant): seen
            for (name, variant), seen in self._failing.items()
            if name in table.routes
            and variant in table.routes[name].variants
            and table.routes[name].epoch == seen.epoch
        }
