"""Evidence grows: gateways' pages and a judge's judgements are added to it, each once."""

import math
from collections.abc import Iterable, Mapping

from configs.checks import Check
from configs.rollout import RolloutPlan, Stage
from delivery.analysis.outcomes import EVER, ArmName
from delivery.checks import measurement
from delivery.checks import preferences as measured_preferences
from delivery.checks import rates as measured_rates
from delivery.checks import values as measured_values
from delivery.checks.evidence import Arm, Cursor, Evidence, Judging, WarmUp
from delivery.checks.judgements import Judged, JudgeSeen, Settled
from delivery.checks.measurement import Fresh, Measurement, Past
from delivery.checks.reading import PageReading
from delivery.traffic.records import Record, RecordPage

_NOT_ASKED = JudgeSeen()


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
    reading = PageReading(evidence, release_id)
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
