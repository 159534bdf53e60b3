"""What the gateway's records say about candidate and stable, added up so that a decision can be made and repeated.

Evidence belongs to one epoch of one stage: shares that differ are never pooled. It is bounded in size, goes into the
ledger as JSON together with the position up to which records were read, and so survives a killed controller without
counting a record twice. Latencies are kept in a histogram with buckets 2 % wide; every question to it has two answers,
a sure one and a possible one, so that rounding never decides in anyone's favour.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import Field

from configs.strict import Strict
from delivery.records import InFlight, Record, RecordPage, Role

GROWTH = 1.02
SMALLEST_S = 1e-4
USERS_KEPT = 2000
OPEN_KEPT = 1000


class Histogram(Strict):
    """Samples in log-spaced buckets: bucket i holds [SMALLEST_S * GROWTH**i, SMALLEST_S * GROWTH**(i+1))."""

    counts: dict[int, int] = Field(default_factory=dict)
    first_at: dict[int, float] = Field(default_factory=dict)  # per bucket: earliest start, UNIX seconds

    @property
    def n(self) -> int:
        """How many samples it holds."""
        return sum(self.counts.values())

    def above(self, limit: float) -> tuple[int, int]:
        """How many samples are (surely, possibly) above a limit in seconds."""
        edge = bucket_of(limit)
        surely = sum(count for i, count in self.counts.items() if i > edge)
        return surely, surely + self.counts.get(edge, 0)

    def first_above(self, limit: float) -> float | None:
        """When the earliest request that was surely above the limit started."""
        edge = bucket_of(limit)
        return min((at for i, at in self.first_at.items() if i > edge), default=None)

    def order_statistic(self, rank: int) -> tuple[float, float]:
        """Edges (seconds) of the bucket that holds the rank-th smallest sample, counted from 1; (0, inf) outside."""
        if rank < 1:
            return 0.0, 0.0
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                return SMALLEST_S * GROWTH**index, SMALLEST_S * GROWTH ** (index + 1)
        return math.inf, math.inf

    def quantile(self, q: float) -> float | None:
        """The sample quantile in seconds, exact to 1 %; None when empty."""
        if not self.counts:
            return None
        low, high = self.order_statistic(max(1, math.ceil(q * self.n)))
        return math.sqrt(low * high)


def bucket_of(value_s: float) -> int:
    """The bucket of a duration; everything below SMALLEST_S shares bucket 0."""
    return max(0, math.floor(math.log(max(value_s, SMALLEST_S) / SMALLEST_S) / math.log(GROWTH) + 1e-9))


class Moments(Strict):
    """Count, sum and sum of squares: enough for a mean with its standard error."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float | None:
        """None without samples."""
        return self.total / self.n if self.n else None

    @property
    def variance(self) -> float:
        """The sample variance; 0 for fewer than two samples."""
        if self.n < 2:
            return 0.0
        return max(0.0, (self.squares - self.total**2 / self.n) / (self.n - 1))


class Arm(Strict):
    """One variant's side of the comparison."""

    requests: int = 0
    errors: int = 0
    first_error_at: float | None = None  # when the earliest failed request started
    users: dict[str, bool] = Field(default_factory=dict)  # user -> failed once; the first USERS_KEPT
    users_beyond: int = 0  # requests of users who came after those
    latency: Histogram = Histogram()
    ttft: Histogram = Histogram()
    completion_tokens: Moments = Moments()

    @property
    def failed_users(self) -> int:
        """How many of the users kept saw at least one failure."""
        return sum(self.users.values())


class Cursor(Strict):
    """Up to where one gateway's records were read."""

    boot_id: str
    seq: int


class Open(Strict):
    """A request that had not ended when its gateway was last asked."""

    variant: str
    age_s: float
    started_at: float


class Evidence(Strict):
    """Everything known about one epoch, and what outlives an epoch: cursors and what users saw."""

    epoch: str
    candidate_variant: str
    stable_variant: str
    candidate_role: Role  # "mirror" in shadow, "served" otherwise
    candidate: Arm = Arm()
    stable: Arm = Arm()
    open: dict[str, tuple[Open, ...]] = Field(default_factory=dict)  # by gateway
    dropped: int = 0  # records that were gone before they could be read
    restarts: int = 0  # of gateways, each of which may have lost some records
    cursors: dict[str, Cursor] = Field(default_factory=dict)  # by gateway
    user_requests: int = 0  # over the whole release
    failed_user_requests: int = 0  # over the whole release: requests that got no complete answer from anyone

    def restarted(self, epoch: str, candidate_role: Role) -> "Evidence":
        """Nothing counted yet, for the next epoch, reading on from the same place."""
        return Evidence(
            epoch=epoch,
            candidate_variant=self.candidate_variant,
            stable_variant=self.stable_variant,
            candidate_role=candidate_role,
            cursors=self.cursors,
            user_requests=self.user_requests,
            failed_user_requests=self.failed_user_requests,
        )

    def open_ages(self, variant: str) -> list[Open]:
        """Requests of a variant that are still being answered, over all gateways."""
        return [item for items in self.open.values() for item in items if item.variant == variant]


def fold(evidence: Evidence, release_id: str, pages: Mapping[str, Iterable[RecordPage]]) -> Evidence:
    """Adds each gateway's pages. A record that was added before is skipped, so pages may overlap and repeat."""
    candidate, stable = _Tally.of(evidence.candidate), _Tally.of(evidence.stable)
    cursors, open_now = dict(evidence.cursors), dict(evidence.open)
    seen = _Seen(evidence.user_requests, evidence.failed_user_requests, evidence.dropped, evidence.restarts)
    for gateway, its_pages in pages.items():
        for page in its_pages:
            after = _after(cursors.get(gateway), page, seen)
            fresh = [record for record in page.records if record.seq > after]
            for record in fresh:
                seen.user(record, release_id)
                if record.epoch == evidence.epoch:
                    if record.variant == evidence.candidate_variant and record.role == evidence.candidate_role:
                        candidate.add(record)
                    elif record.variant == evidence.stable_variant and record.role == "served":
                        stable.add(record)
            last = max([after, *(record.seq for record in fresh)])
            cursors[gateway] = Cursor(boot_id=page.boot_id, seq=last)
            open_now[gateway] = tuple(_open(evidence, page))
    return evidence.model_copy(
        update={
            "candidate": candidate.freeze(),
            "stable": stable.freeze(),
            "cursors": cursors,
            "open": open_now,
            "dropped": seen.dropped,
            "restarts": seen.restarts,
            "user_requests": seen.requests,
            "failed_user_requests": seen.failed,
        }
    )


def _after(cursor: Cursor | None, page: RecordPage, seen: "_Seen") -> int:
    """From where this page is new; counts what was lost on the way."""
    if cursor is None:
        return 0
    restarted = cursor.boot_id != page.boot_id
    seen.restarts += restarted
    after = 0 if restarted else cursor.seq
    if page.dropped:
        first = page.records[0].seq if page.records else page.last_seq + 1
        seen.dropped += max(0, first - after - 1)
        after = max(after, first - 1)
    return after


def _open(evidence: Evidence, page: RecordPage) -> Iterable[Open]:
    wanted = [item for item in page.in_flight if _belongs(evidence, item)]
    for item in sorted(wanted, key=lambda item: item.started_at)[:OPEN_KEPT]:
        yield Open(variant=item.variant, age_s=max(0.0, page.now - item.started_at), started_at=item.started_at)


def _belongs(evidence: Evidence, item: InFlight) -> bool:
    if item.epoch != evidence.epoch:
        return False
    if item.variant == evidence.candidate_variant:
        return item.role == evidence.candidate_role
    return item.variant == evidence.stable_variant and item.role == "served"


@dataclass
class _Seen:
    requests: int
    failed: int
    dropped: int
    restarts: int

    def user(self, record: Record, release_id: str) -> None:
        """A logical request has one served attempt, and at most one attempt after which nobody answered its user."""
        if record.role != "mirror" and record.epoch.startswith(release_id + "/"):
            self.requests += record.role == "served"
            self.failed += not record.user_ok


@dataclass
class _Tally:
    """An Arm while it is being added to: frozen models would be copied once per record."""

    arm: Arm
    requests: int
    errors: int
    first_error_at: float | None
    users: dict[str, bool]
    users_beyond: int
    latency: "_Counts"
    ttft: "_Counts"
    tokens: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, arm: Arm) -> "_Tally":
        return cls(
            arm=arm,
            requests=arm.requests,
            errors=arm.errors,
            first_error_at=arm.first_error_at,
            users=dict(arm.users),
            users_beyond=arm.users_beyond,
            latency=_Counts(dict(arm.latency.counts), dict(arm.latency.first_at)),
            ttft=_Counts(dict(arm.ttft.counts), dict(arm.ttft.first_at)),
        )

    def add(self, record: Record) -> None:
        self.requests += 1
        if not record.ok:
            self.errors += 1
            self.first_error_at = min(self.first_error_at or record.started_at, record.started_at)
        if record.user and (record.user in self.users or len(self.users) < USERS_KEPT):
            self.users[record.user] = self.users.get(record.user, False) or not record.ok
        elif record.user:
            self.users_beyond += 1
        # A quick failure is no quick answer, nor is one that its client left; a timeout is a slow one.
        if not record.error or "timeout" in record.error:
            self.latency.add(record.duration_s, record.started_at)
        if record.ttft_s is not None:
            self.ttft.add(record.ttft_s, record.started_at)
        if not record.error and record.completion_tokens is not None:
            self.tokens.append(float(record.completion_tokens))

    def freeze(self) -> Arm:
        if self.requests == self.arm.requests:
            return self.arm
        before = self.arm.completion_tokens
        return Arm(
            requests=self.requests,
            errors=self.errors,
            first_error_at=self.first_error_at,
            users=self.users,
            users_beyond=self.users_beyond,
            latency=Histogram(counts=self.latency.counts, first_at=self.latency.first_at),
            ttft=Histogram(counts=self.ttft.counts, first_at=self.ttft.first_at),
            completion_tokens=Moments(
                n=before.n + len(self.tokens),
                total=before.total + sum(self.tokens),
                squares=before.squares + sum(value * value for value in self.tokens),
            ),
        )


@dataclass
class _Counts:
    counts: dict[int, int]
    first_at: dict[int, float]

    def add(self, value_s: float, started_at: float) -> None:
        index = bucket_of(value_s)
        self.counts[index] = self.counts.get(index, 0) + 1
        self.first_at[index] = min(self.first_at.get(index, started_at), started_at)
