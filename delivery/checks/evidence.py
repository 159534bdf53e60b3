"""What the gateway's records say about candidate and stable, gathered so that a decision can be made and repeated.

Evidence belongs to one epoch of one stage: shares that differ are never pooled, and only requests that started under
the epoch's table count. It is bounded in size, goes into the ledger as JSON together with the position up to which
records were read, and so survives a killed controller without counting a record twice.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from pydantic import Field

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from configs.strict import Strict
from delivery.analysis.outcomes import EVER
from delivery.analysis.outcomes import ArmName as ArmName
from delivery.analysis.sketch import Sketch
from delivery.checks import measurement
from delivery.checks import preferences as measured_preferences
from delivery.checks import rates as measured_rates
from delivery.checks import values as measured_values
from delivery.checks.judgements import Judged, JudgeSeen, Settled
from delivery.checks.measurement import Fresh, Measurement, Past
from delivery.traffic.records import TRIPPED, Feedback, InFlight, Record, RecordPage, Role

_NOT_ASKED = JudgeSeen()
T = TypeVar("T", Record, Feedback, InFlight)


class Arm(Strict):
    """One variant's requests that count, warm-up left out."""

    requests: int = 0
    errors: int = 0
    in_flight: int = 0  # when the gateways were last asked
    left_out: int = 0  # that count for nothing: the variant was not asked, or the client decided what it could say
    unvouched: int = 0  # of users for whom nobody vouches; together they are one user


class Cursor(Strict):
    """Up to where one gateway's records were read."""

    boot_id: str
    seq: int


class Judging(Strict):
    """Over the whole release: up to which pair each gateway's are settled, and how many were paid for."""

    cursors: dict[str, Cursor] = Field(default_factory=dict)  # by gateway
    asked: int = 0
    is_spent: bool = False  # no more are asked in this release
    error: str = ""  # why the judge does not answer now


class WarmUp(Strict):
    """The declared exclusion at the beginning of an epoch: what it takes until requests count."""

    seen: int = 0  # of the candidate's requests
    began_at: float | None = None  # start of the first of them, UNIX seconds
    since: float | None = None  # requests that start later count; None: still warming up


class Evidence(Strict):
    """Everything known about one epoch, and what outlives an epoch: cursors, stable's past, and what users saw."""

    epoch: str
    candidate_variant: str
    stable_variant: str
    candidate_role: Role  # "mirror" in shadow, "served" otherwise
    candidate: Arm = Arm()
    stable: Arm = Arm()
    warm_up: WarmUp = WarmUp()
    measurements: dict[str, Measurement] = Field(default_factory=dict)  # by the check's name
    past: dict[str, Past] = Field(default_factory=dict)  # of earlier epochs, by the check's name
    usual_s: Sketch = Sketch()  # stable's latencies over the release
    dropped: int = 0  # records that were gone before they could be read
    restarts: int = 0  # of gateways, each of which may have lost some records
    cursors: dict[str, Cursor] = Field(default_factory=dict)  # by gateway
    judging: Judging = Judging()
    user_requests: int = 0  # over the whole release
    failed_user_requests: int = 0  # over the whole release: requests that got no complete answer from anyone

    def restarted(self, epoch: str, candidate_role: Role) -> "Evidence":
        """Nothing counted yet, for the next epoch, reading on from the same place."""
        return Evidence(
            epoch=epoch,
            candidate_variant=self.candidate_variant,
            stable_variant=self.stable_variant,
            candidate_role=candidate_role,
            past={**self.past, **{name: found.past for name, found in self.measurements.items()}},
            usual_s=self.usual_s,
            cursors=self.cursors,
            judging=self.judging,
            user_requests=self.user_requests,
            failed_user_requests=self.failed_user_requests,
        )


def fold(
    evidence: Evidence,
    plan: RolloutPlan,
    stage: Stage,
    release_id: str,
    pages: Mapping[str, Iterable[RecordPage]],
    judge: JudgeSeen = _NOT_ASKED,
) -> Evidence:
    """Adds each gateway's pages, and what the judge said of pairs.

    A record or a judgement that was added before is skipped, so that they may overlap and repeat.
    """
    reading = _Reading(evidence, release_id)
    for gateway, its_pages in pages.items():
        for page in its_pages:
            reading.page(gateway, page)
    fresh = Fresh(now=reading.now(), prices=plan.prices, usual_s=evidence.usual_s)
    warm_up = evidence.warm_up if stage.warmup_requests or stage.warmup_s else WarmUp(since=EVER)
    for arm, record in reading.records:
        if warm_up.since is None and arm == "candidate":
            warm_up = _warmed(warm_up, stage, record)
        if warm_up.since is not None and record.started_at >= warm_up.since:
            (fresh.candidate if arm == "candidate" else fresh.stable).append(record)
    since = warm_up.since if warm_up.since is not None else math.inf
    fresh.in_flight = [(arm, item) for arm, item in reading.in_flight if item.started_at >= since]
    most = plan.judge.pairs_per_release if plan.judge is not None else 0
    judging, judged = _with_judged(evidence.judging, judge, most)
    fresh.judged = [one for one in judged if one.epoch == evidence.epoch and one.started_at >= since]
    fresh.excused = reading.excused()
    fresh.feedback = [(arm, said) for arm, said in reading.feedback if said.started_at >= since]
    return evidence.model_copy(
        update={
            "candidate": _added(evidence.candidate, fresh, "candidate", reading.left_out["candidate"]),
            "stable": _added(evidence.stable, fresh, "stable", reading.left_out["stable"]),
            "warm_up": warm_up,
            "measurements": _measured(evidence, plan.checks, fresh),
            "usual_s": evidence.usual_s.with_values(_usual(fresh.stable)),
            "cursors": reading.cursors,
            "judging": judging,
            "dropped": reading.dropped,
            "restarts": reading.restarts,
            "user_requests": reading.user_requests,
            "failed_user_requests": reading.failed,
        }
    )


def _measured(evidence: Evidence, checks: Iterable[Check], fresh: Fresh) -> dict[str, Measurement]:
    """Every check of the plan, so that those of later stages know stable's past when they begin."""
    in_shadow = evidence.candidate_role == "mirror"
    measured = {}
    for check in checks:
        found = evidence.measurements.get(check.name)
        if found is None:
            found = measurement.begin(check, evidence.past.get(check.name, Past()), in_shadow=in_shadow)
        if found.paired and check.kind != "preference":
            measured[check.name] = measured_rates.with_pairs(found, check, fresh)
        elif check.kind == "preference":
            measured[check.name] = measured_preferences.with_preferences(found, fresh)
        elif check.kind == "rate":
            measured[check.name] = measured_rates.with_rates(found, check, fresh)
        else:
            measured[check.name] = measured_values.with_values(found, check, fresh)
    return measured


def _with_judged(judging: Judging, judge: JudgeSeen, most: int) -> tuple[Judging, list[Judged]]:
    """What is new of what the judge said, and up to where that is now."""
    cursors = dict(judging.cursors)

    def is_new(item: Judged | Settled) -> bool:
        known = judging.cursors.get(item.gateway)
        return known is None or known.boot_id != item.boot_id or item.seq > known.seq

    judged = [one for one in judge.judged if is_new(one)]
    for place in judge.settled:
        if is_new(place):
            cursors[place.gateway] = Cursor(boot_id=place.boot_id, seq=place.seq)
    asked = judging.asked + sum(one.asked for one in judged)
    return Judging(cursors=cursors, asked=asked, is_spent=asked >= most, error=judge.error), judged


def _added(arm: Arm, fresh: Fresh, name: ArmName, left_out: int) -> Arm:
    records = fresh.candidate if name == "candidate" else fresh.stable
    return Arm(
        requests=arm.requests + len(records),
        errors=arm.errors + sum(not record.ok for record in records),
        in_flight=sum(whose == name for whose, _ in fresh.in_flight),
        left_out=arm.left_out + left_out,
        unvouched=arm.unvouched + sum(not record.vouched for record in records),
    )


def _usual(records: Iterable[Record]) -> Iterable[float]:
    return (r.duration_s for r in records if not r.error and 0 <= r.duration_s < measured_values.LONG)


def _warmed(warm_up: WarmUp, stage: Stage, record: Record) -> WarmUp:
    """With one more of the candidate's requests. Who counts then depends on when requests start, never on how."""
    seen = warm_up.seen + 1
    began_at = record.started_at if warm_up.began_at is None else min(warm_up.began_at, record.started_at)
    since = max(record.started_at, began_at + stage.warmup_s) if seen > stage.warmup_requests else None
    return WarmUp(seen=seen, began_at=began_at, since=since)


# -- reading pages --------------------------------------------------------------------------------------------------


class _Reading:
    """Pages as they are read: what is new, for which arm, and up to where."""

    def __init__(self, evidence: Evidence, release_id: str):
        self._evidence, self._mine = evidence, release_id + "/"
        self.records: list[tuple[ArmName, Record]] = []
        self.left_out: dict[ArmName, int] = {"stable": 0, "candidate": 0}
        self._failed_too: dict[str, str] = {}  # stable's error in the candidate's place, by request id
        self.feedback: list[tuple[ArmName, Feedback]] = []
        self.in_flight: list[tuple[ArmName, InFlight]] = []
        self.cursors = dict(evidence.cursors)
        self.dropped, self.restarts = evidence.dropped, evidence.restarts
        self.user_requests, self.failed = evidence.user_requests, evidence.failed_user_requests
        self._clocks: dict[str, float | None] = dict.fromkeys(evidence.cursors)
        self._open: dict[str, list[tuple[ArmName, InFlight]]] = {}

    def page(self, gateway: str, page: RecordPage) -> None:
        """Adds one page of one gateway."""
        after = self._after(self.cursors.get(gateway), page)
        last = after
        for record in page.records:
            if record.seq <= after:
                continue
            last = max(last, record.seq)
            self._user(record)
            self._add(record)
        for said in page.feedback:
            if said.seq > after:
                last = max(last, said.seq)
                arm = self._arm(said)
                if arm is not None:
                    self.feedback.append((arm, _counted(arm, said)))
        self.cursors[gateway] = Cursor(boot_id=page.boot_id, seq=last)
        self._clocks[gateway] = page.now if last >= page.last_seq else None
        mine = ((arm, item) for item in page.in_flight if (arm := self._arm(item)) is not None)
        self._open[gateway] = [(arm, _counted(arm, item)) for arm, item in mine]
        self.in_flight = [one for items in self._open.values() for one in items]

    def _add(self, record: Record) -> None:
        if record.role == "failover" and not record.ok and record.epoch == self._evidence.epoch:
            self._failed_too[record.request_id] = record.error
        arm = self._arm(record)
        if arm is not None and (record.forced or record.error == TRIPPED):
            self.left_out[arm] += 1
        elif arm is not None:
            self.records.append((arm, _counted(arm, record)))

    def excused(self) -> set[str]:
        """Requests at which stable failed in the same way, when it was asked instead: the request's own fault."""
        failed = ((record.request_id, record.error) for arm, record in self.records if arm == "candidate")
        return {request_id for request_id, error in failed if error and self._failed_too.get(request_id) == error}

    def now(self) -> float | None:
        """The gateways' clock, if all of them told everything."""
        clocks = list(self._clocks.values())
        known = [clock for clock in clocks if clock is not None]
        return min(known) if known and len(known) == len(clocks) else None

    def _arm(self, item: Record | InFlight | Feedback) -> ArmName | None:
        """Whose side an assigned request of this epoch is on."""
        evidence = self._evidence
        if item.epoch != evidence.epoch:
            return None
        if item.variant == evidence.candidate_variant:
            # a copy to a candidate that serves users is a probe, in the place of a user whom the gateway keeps from it
            is_asked = item.role in ("mirror", evidence.candidate_role)
            return "candidate" if is_asked else None
        return "stable" if item.variant == evidence.stable_variant and item.role == "served" else None

    def _user(self, record: Record) -> None:
        """A logical request has one served attempt, and at most one attempt after which nobody answered its user."""
        if record.role != "mirror" and record.epoch.startswith(self._mine):
            self.user_requests += record.role == "served"
            self.failed += not record.user_ok

    def _after(self, cursor: Cursor | None, page: RecordPage) -> int:
        """From where this page is new; counts what was lost on the way."""
        if cursor is None:
            return 0
        restarted = cursor.boot_id != page.boot_id
        self.restarts += restarted
        after = 0 if restarted else cursor.seq
        if page.dropped:
            known = [record.seq for record in page.records] + [said.seq for said in page.feedback]
            first = min(known, default=page.last_seq + 1)
            self.dropped += max(0, first - after - 1)
            after = max(after, first - 1)
        return after


def _counted(arm: ArmName, item: T) -> T:
    """Users who name themselves may all be one, and count as one, where nobody vouches for them."""
    return item if item.vouched else replace(item, user=f"unvouched {arm}")
