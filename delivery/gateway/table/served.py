"""The routing table that is being served, and the lease without which stable gets everything.

The lease runs on the monotonic clock. Its end is remembered on the wall clock too, so that a restart can shorten a
lease but never lengthen it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from configs.routing import Route, RoutingTable

Clock = Callable[[], float]


class ConflictError(Exception):
    """The table cannot be replaced, or its lease renewed, by a caller who knows as little as this one."""


@dataclass(frozen=True)
class Kept:
    """What survives a restart. Times are UNIX seconds."""

    table: RoutingTable
    renewed_at: float
    expires_at: float


class Tables:
    """At most one table, replaced as a whole. `observers` are told of each new one.

    `leased=False`: the table is a file that somebody edits; its shares hold without anyone renewing them.
    """

    def __init__(
        self,
        observers: Sequence[Callable[[RoutingTable], None]] = (),
        *,
        leased: bool = True,
        monotonic: Clock = time.monotonic,
        wall: Clock = time.time,
    ):
        self._observers = tuple(observers)
        self.table: RoutingTable | None = None
        self.routes: Mapping[str, Route] = {}
        self._leased = leased
        self._monotonic = monotonic
        self._wall = wall
        self._lease_until = float("-inf")
        self._renewed_at = self._expires_at = 0.0
        self._has_shares = False

    @property
    def revision(self) -> int:
        """The table's revision; 0 without a table."""
        return self.table.revision if self.table else 0

    def put(self, table: RoutingTable) -> None:
        """Serves this table from now on and grants its lease anew.

        ConflictError: it is older than what is served, or different under the same revision.
        """
        served = self.table
        if served is not None and table.revision < served.revision:
            raise ConflictError(f"revision {table.revision} is older than revision {served.revision}, which is served")
        if served is not None and table.revision == served.revision and table != served:
            raise ConflictError(
                f"revision {table.revision} is served already, with other content: use a higher revision"
            )
        if table != served:
            self.replace(table)
        self._grant(table.lease_s)

    def replace(self, table: RoutingTable) -> None:
        """Serves this table from now on, whatever was served before; the lease stays as it is."""
        self.table = table
        self.routes = table.routes
        self._has_shares = any(_has_shares(route) for route in table.routes.values())
        for observe in self._observers:
            observe(table)

    def adopt(self, table: RoutingTable, lease_until: float) -> None:
        """Serves what the fleet serves, until the fleet's lease ends by the monotonic clock that they share."""
        if table != self.table:
            self.replace(table)
        self._lease_until = lease_until

    def renew(self, revision: int) -> None:
        """Grants the lease anew. ConflictError: another revision is served, or none."""
        if self.table is None or revision != self.table.revision:
            served = f"revision {self.table.revision}" if self.table else "no table"
            raise ConflictError(f"the lease of revision {revision} cannot be renewed: {served} is served")
        self._grant(self.table.lease_s)

    @property
    def lease_until(self) -> float:
        """When the lease ends, by the monotonic clock."""
        return self._lease_until if self._leased else float("inf")

    def lease_valid(self) -> bool:
        """Whether candidates and holdbacks get their shares now."""
        return not self._leased or self._monotonic() < self._lease_until

    def lease_remaining_s(self) -> float | None:
        """Seconds until stable gets everything, 0 from then on; None when no share depends on a lease."""
        if not self._leased or not self._has_shares:
            return None
        return max(0.0, self._lease_until - self._monotonic())

    def kept(self) -> Kept | None:
        """What to write down now, for `restore`."""
        return Kept(self.table, self._renewed_at, self._expires_at) if self.table else None

    def restore(self, kept: Kept) -> None:
        """Serves what an earlier process served, with what is left of its lease by the wall clock."""
        self.replace(kept.table)
        now = self._wall()
        if now < kept.renewed_at:  # the clock was set back: nobody knows how old the lease is
            return
        left = min(kept.expires_at - now, kept.table.lease_s)
        self._lease_until = self._monotonic() + left
        self._renewed_at, self._expires_at = kept.renewed_at, kept.expires_at

    def _grant(self, seconds: float) -> None:
        self._lease_until = self._monotonic() + seconds
        self._renewed_at = self._wall()
        self._expires_at = self._renewed_at + seconds


def _has_shares(route: Route) -> bool:
    candidate = route.candidate is not None and (route.candidate.share_bp or route.candidate.mirror_bp)
    holdback = route.holdback is not None and route.holdback.share_bp
    return bool(candidate or holdback or route.experiment or set(route.testers.values()) - {route.stable})
