"""Trips of the gateway in made-up traffic: an equal candidate, an incident that both variants share, unlucky users.

Each run is one canary stage, request by request: the gateway's own breaker takes the candidate's users away and asks it
by copies, stable takes over what failed, and the checks judge what is on record (delivery.checks). A trip alone may
condemn nobody, and all that condemns together stays within alpha.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.canary.row import TableRow
from benchmarks.canary.simulate import ALPHA
from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from configs.routing import Candidate, Route, RoutingTable, Trip, Variant
from delivery.checks.evidence import Evidence
from delivery.checks.fold import fold
from delivery.checks.verdicts import judge
from delivery.traffic.breaker import Breaker
from delivery.traffic.records import TRIPPED, AttemptRole, Record, RecordPage, Tripped

SHARE = 0.1
USERS, ACTIVITY_SPREAD = 1000, 1.5  # a few of them make most of the requests
UNLUCKY, THEIR_RATE, USUAL_RATE = 0.05, 0.5, 0.002
INCIDENT_RATE, INCIDENT_TICKS = 0.6, 30
TICKS, PER_TICK = 120, 20
FEW = 40  # candidate requests within which a broken candidate is to be known
WHEN_BROKEN = 60  # the tick from which a candidate that breaks fails every time
PLAN = RolloutPlan(
    alpha=ALPHA,
    stages=(Stage(kind="canary", share_bp=1000), Stage(kind="full", share_bp=9000)),
    checks=(Check(metric="error_rate", max_increase=0.02), Check(metric="error_rate", max=0.3)),
)


@dataclass
class Stay:
    """What became of one run."""

    trips: int = 0
    condemned_at: int | None = None  # how many requests the candidate had been asked since it broke
    is_given_back: bool = False  # its users came back after a trip


def run(rng: np.random.Generator, *, breaks: bool) -> Stay:
    """One canary of a candidate that is equal to stable, or (`breaks`) fails every time from the middle on."""
    stay, gateway = Stay(), _Gateway(rng, breaks=breaks)
    evidence = Evidence(epoch="r/1", candidate_variant="new", stable_variant="old", candidate_role="served")
    was_tripped, stage = False, PLAN.stages[0]
    for page in gateway.pages():
        evidence = fold(evidence, PLAN, stage, "r", {"gateway": (page,)})
        trip = next((trip for trip in page.tripped if trip.variant == "new"), None)
        stay.trips += trip is not None and not was_tripped
        stay.is_given_back |= trip is None and was_tripped
        was_tripped = trip is not None
        if judge(PLAN, stage, evidence, trip).blame == "rollback":
            stay.condemned_at = gateway.asked_since_broken
            break
    return stay


def of_an_equal_candidate(runs: int, seed: int) -> list[TableRow]:
    """What trips, and what condemns."""
    stays = [run(np.random.default_rng([seed, number]), breaks=False) for number in range(runs)]
    tripped = [stay for stay in stays if stay.trips]
    condemned = sum(stay.condemned_at is not None for stay in stays) / runs
    back = sum(stay.is_given_back for stay in tripped) / max(1, len(tripped))
    case = "equal, shared incident, unlucky heavy users"
    detail = f"a trip in {len(tripped)} runs, in {back:.0%} of them users came back"
    return [
        TableRow(case, "rolled back", ALPHA, "at most", condemned, runs, detail),
        TableRow(case, "tripped", 0.05, "at least", len(tripped) / runs, runs, "or the row above shows nothing"),
    ]


def of_a_broken_candidate(runs: int, seed: int) -> list[TableRow]:
    """The breaker saves the users, and the checks still know enough to take the candidate back."""
    stays = [run(np.random.default_rng([seed, number]), breaks=True) for number in range(runs)]
    known = [stay.condemned_at for stay in stays if stay.condemned_at is not None]
    case, within = "total outage in the same traffic, with trips", f"power within {FEW}"
    power = sum(asked <= FEW for asked in known) / runs
    detail = (
        f"median {np.median(known) if known else float('inf'):g}, copies among them; {len(known)} rolled back in all"
    )
    return [TableRow(case, within, 0.9, "at least", power, runs, detail)]


class _Gateway:
    """Its records of a stage, tick by tick."""

    def __init__(self, rng: np.random.Generator, *, breaks: bool):
        self._rng, self._breaks = rng, breaks
        self._breaker, self._seq = Breaker(), 0
        variants = {name: Variant(model=name, upstreams=("http://u",)) for name in ("old", "new")}
        candidate = Candidate(variant="new", share_bp=round(SHARE * 10_000))
        route = Route(salt="s", epoch="r/1", stable="old", variants=variants, candidate=candidate, trip=Trip())
        self._route = route
        self._breaker.keep_only(RoutingTable(revision=1, routes={"tutor": route}))
        activity = np.exp(ACTIVITY_SPREAD * rng.standard_normal(USERS))
        self._activity = activity / activity.sum()
        self._rates = np.where(rng.random(USERS) < UNLUCKY, THEIR_RATE, USUAL_RATE)
        self._has_new = rng.random(USERS) < SHARE
        self._incident_at = int(rng.integers(TICKS - INCIDENT_TICKS))
        self.asked_since_broken = 0

    def pages(self) -> Iterator[RecordPage]:
        """One for each tick of a second."""
        for tick in range(TICKS):
            records: list[Record] = []
            who = self._rng.choice(USERS, PER_TICK, p=self._activity)
            for number, user in enumerate(who):
                for record in self._attempts(tick, f"{tick}-{number}", int(user), tick + number / PER_TICK):
                    self._seq += 1
                    records.append(replace(record, seq=self._seq))
                    self._breaker.observe(records[-1])
            yield RecordPage(
                boot_id="b",
                now=float(tick + 1),
                revision=1,
                lease_remaining_s=None,
                records=tuple(records),
                in_flight=(),
                tripped=tuple(Tripped.model_validate(trip) for trip in self._breaker.page()),
                dropped=0,
                last_seq=self._seq,
            )

    def _attempts(self, tick: int, request_id: str, user: int, at: float) -> Iterator[Record]:
        def asked(variant: str, role: AttemptRole) -> Record:
            rate = self._rates[user]
            if self._incident_at <= tick < self._incident_at + INCIDENT_TICKS:
                rate = max(rate, INCIDENT_RATE)
            is_broken = self._breaks and variant == "new" and tick >= WHEN_BROKEN
            self.asked_since_broken += is_broken
            ok = not is_broken and bool(self._rng.random() >= rate)
            return self._record(request_id, user, at, variant, role, "" if ok else "status")

        if not self._has_new[user]:
            yield asked("old", "served")
            return
        if self._breaker.is_tripped("tutor", self._route, "new"):
            yield self._record(request_id, user, at, "new", "served", TRIPPED)
            yield asked("old", "failover")
            if self._breaker.probe_due("tutor", "new", at):
                yield asked("new", "mirror")
            return
        first = asked("new", "served")
        yield first
        if not first.ok:
            yield asked("old", "failover")

    def _record(self, request_id: str, user: int, at: float, variant: str, role: AttemptRole, error: str) -> Record:
        return Record(
            seq=0,
            request_id=request_id,
            route="tutor",
            epoch="r/1",
            variant=variant,
            role=role,
            user=f"u{user}",
            started_at=at,
            duration_s=0.5,
            ttft_s=0.1,
            status=500 if error else 200,
            ok=not error,
            error=error,
        )
