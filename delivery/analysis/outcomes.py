"""From single requests to blocks: who counts, when, and how often.

Two rules keep a block's two arms comparable (a third, only requests that started after the candidate got its share,
is delivery.checks.fold's):

- A user who sticks to a variant counts until the first hit and then leaves the risk set, for either arm: the failures
  of one unlucky user are one piece of evidence. A user counts once per block, whatever the number of requests, so that
  a block's size does not depend on its outcomes. Requests without a user count one by one.
- Values are judged by cohorts of the same age: when a request is `horizon_s` old it is known whether it exceeds its
  limit, ended or not. Judging ended requests earlier would favour the arm with the later limit.

A logical request is given once, whatever its retries; times are UNIX seconds of one clock.
"""

import base64
import zlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

from configs.strict import Strict
from delivery.analysis.two_sample import Block, counts

ArmName = Literal["stable", "candidate"]
PLACES = 1 << 17  # of a risk set
YOUNG_KEPT = 2000
EVER = -1e18  # before every request


class Trial(NamedTuple):
    """One request's outcome; `user` is "" when there is none."""

    arm: ArmName
    user: str
    started_at: float
    hit: bool


class RiskSet(Strict):
    """The users of one check who had their hit: a bitmap of 2**17 places by a checksum of the user, 16 KiB at most.

    A user who shares a place with one who left is left out too, in whichever arm: a little power for a bounded size.
    """

    bitmap: str = ""  # base64 of the compressed bits

    def opened(self) -> "Gone":
        """For looking up and adding."""
        return Gone(bytearray(zlib.decompress(base64.b64decode(self.bitmap)) if self.bitmap else PLACES // 8))


class Gone:
    """A risk set while it is being added to."""

    def __init__(self, bits: bytearray):
        self._bits = bits
        self.grew = False

    def __contains__(self, user: str) -> bool:
        byte, bit = _place(user)
        return bool(self._bits[byte] & bit)

    def add(self, user: str) -> None:
        """This user has left."""
        byte, bit = _place(user)
        self._bits[byte] |= bit
        self.grew = True

    def closed(self) -> RiskSet:
        """As it goes into the ledger."""
        return RiskSet(bitmap=base64.b64encode(zlib.compress(bytes(self._bits), 1)).decode())


def _place(user: str) -> tuple[int, int]:
    place = zlib.crc32(user.encode()) % PLACES
    return place >> 3, 1 << (place & 7)


def block_of(trials: Iterable[Trial], risk: RiskSet) -> tuple[Block, RiskSet]:
    """A tick's trials as (misses, hits) of users at risk, and who is at risk afterwards."""
    gone = risk.opened()
    size = {"stable": 0, "candidate": 0}
    hits = {"stable": 0, "candidate": 0}
    users: dict[tuple[ArmName, str], bool] = {}
    for arm, user, _, hit in trials:
        if not user:
            size[arm] += 1
            hits[arm] += hit
        elif user not in gone:
            users[arm, user] = users.get((arm, user), False) or hit
    for (arm, user), hit in users.items():
        size[arm] += 1
        if hit:
            hits[arm] += 1
            gone.add(user)
    block = counts(size["stable"], hits["stable"], size["candidate"], hits["candidate"])
    return block, gone.closed() if gone.grew else risk


class Timed(NamedTuple):
    """One request's value; of one in flight, what is known of it: its age for a duration, infinity for tokens."""

    arm: ArmName
    user: str
    started_at: float
    value: float


class Cohorts(Strict):
    """Up to which start time requests were judged, and the ended ones that are not old enough yet.

    When there are too many of those, every second one is left out, then every second one of the rest: by a checksum
    that knows neither arm nor outcome, for ended ones and those in flight alike.
    """

    settled_until: float  # at first: when the candidate got its share
    young: tuple[Timed, ...] = ()
    halvings: int = 0


def settle(
    cohorts: Cohorts, ended: Iterable[Timed], in_flight: Iterable[Timed], horizon_s: float, now: float
) -> tuple[list[Timed], Cohorts]:
    """The requests that came of age, and the cohorts without them.

    `ended` are new since the last call; a request that ended before it was seen to be of age is judged by its whole
    value, one in flight by what is known of it.
    """
    since, halvings = cohorts.settled_until, cohorts.halvings
    until = max(since, now - horizon_s)
    fresh = _drawn((item for item in ended if item.started_at >= since), halvings)
    known = [*cohorts.young, *fresh]
    running = _drawn((item for item in in_flight if since <= item.started_at < until), halvings)
    due = [item for item in known if item.started_at < until] + running
    young = [item for item in known if item.started_at >= until]
    while len(young) > YOUNG_KEPT:
        halvings += 1
        young = _drawn(young, halvings)
    # made here: checking thousands of requests per tick again is slow
    return due, Cohorts.model_construct(settled_until=until, young=tuple(young), halvings=halvings)


def _drawn(items: Iterable[Timed], halvings: int) -> list[Timed]:
    if not halvings:
        return list(items)
    mask = (1 << halvings) - 1
    return [item for item in items if zlib.crc32(f"{item.user} {item.started_at!r}".encode()) & mask == 0]


def exceedances(due: Iterable[Timed], stable: float, candidate: float) -> list[Trial]:
    """Whether each request of a cohort exceeded its arm's limit."""
    limit: dict[ArmName, float] = {"stable": stable, "candidate": candidate}
    return [Trial(item.arm, item.user, item.started_at, item.value > limit[item.arm]) for item in due]


def first_of_users(due: Iterable[Timed], seen: RiskSet) -> tuple[list[Timed], RiskSet]:
    """For values rather than hits every user counts once: with the first request. Requests without a user all count."""
    known = seen.opened()
    first: list[Timed] = []
    for item in sorted(due, key=lambda item: item.started_at):
        if not item.user or item.user not in known:
            first.append(item)
            if item.user:
                known.add(item.user)
    return first, known.closed() if known.grew else seen
