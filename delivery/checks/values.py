"""A tick's requests as values - seconds, tokens, cost - judged in cohorts of the same age.

When a request is `horizon_s` old, either its value is known or it counts as longer than all that are compared: a hung
candidate is seen although it never answers. Durations need the largest limit as their horizon; tokens and cost are only
known at the end, so there it is twice the p95 of stable's latency, and who is not done by then is long.
"""

import math
from typing import Any

from configs.checks import Check
from delivery.analysis import one_sample, quantiles, ranks
from delivery.analysis.one_sample import OneSample
from delivery.analysis.outcomes import ArmName, Cohorts, Timed, block_of, exceedances, first_of_users, settle
from delivery.analysis.quantiles import ENOUGH_PAST, RelativeQuantile
from delivery.analysis.sketch import Sketch
from delivery.analysis.two_sample import Block, counts
from delivery.checks.measurement import Fresh, Measurement, Past, first_hit, value_past
from delivery.traffic.records import InFlight

LONG = 1e12  # larger than every value: it was not there in time
PATIENCE = 2.0  # of stable's p95 latency, for what is known only at the end


def with_values(found: Measurement, check: Check, fresh: Fresh) -> Measurement:
    """One more tick."""
    ended, unusable = _ended(check, fresh)
    found = found.model_copy(update={"unusable": found.unusable + unusable}) if unusable else found
    horizon_s = _horizon_s(found, check, fresh)
    if found.cohorts is None or horizon_s is None:
        return _learning(found, check, ended, fresh)
    now = fresh.now if fresh.now is not None else -math.inf
    if fresh.now is not None and fresh.now < found.cohorts.settled_until:  # the clock was set back
        return found.model_copy(update={"cohorts": Cohorts(settled_until=fresh.now)})
    due, cohorts = settle(found.cohorts, ended, _running(check, fresh), horizon_s, now)
    if not due:
        return found if cohorts == found.cohorts else found.model_copy(update={"cohorts": cohorts})
    judged = _by_ranks(found, check, due, horizon_s) if _is_ranked(check) else _by_limit(found, check, due)
    stable = [item.value for item in due if item.arm == "stable" and item.value < LONG]
    return judged.model_copy(
        update={
            "cohorts": cohorts,
            "past": Past(values=found.past.values.with_values(stable)),
            "values": found.values.with_values(i.value for i in due if i.arm == "candidate" and i.value < LONG),
        }
    )


def _ended(check: Check, fresh: Fresh) -> tuple[list[Timed], int]:
    """The values that are there, and how many of the candidate's should be and are not."""
    ended, unusable, reads = [], 0, check.reads
    for arm, records in fresh.of_arms():
        for record in records:
            value = reads.of(record, fresh.prices)
            if value is not None and 0 <= value < math.inf:
                ended.append(Timed(arm, record.user, record.started_at, value))
            elif arm == "candidate" and (value is not None or (record.ok and not record.error)):
                unusable += 1
    return ended, unusable


def _running(check: Check, fresh: Fresh) -> list[Timed]:
    now = fresh.now
    return [] if now is None else [_so_far(check, arm, item, now) for arm, item in fresh.in_flight]


def _so_far(check: Check, arm: ArmName, item: InFlight, now: float) -> Timed:
    """What is known of a request in flight."""
    so_far = check.reads.so_far
    value = LONG if so_far is None else so_far(now - item.started_at, item.ttft_s)
    return Timed(arm, item.user, item.started_at, max(0.0, value))


def _horizon_s(found: Measurement, check: Check, fresh: Fresh) -> float | None:
    """At what age a request is judged; None while too little is known of stable."""
    if check.is_relative and found.past.values.n < ENOUGH_PAST:
        return None
    if check.reads.so_far is None:
        usual = fresh.usual_s.quantile(0.95) if fresh.usual_s.n >= ENOUGH_PAST else None
        return None if usual is None else PATIENCE * usual
    if check.max is not None:
        return check.max
    slow = found.past.values.quantile(0.95)
    return None if slow is None else max(slow, check.ratio * slow + check.increase)


def _learning(found: Measurement, check: Check, ended: list[Timed], fresh: Fresh) -> Measurement:
    """Stable's values only teach; judged is who starts after that."""
    past = Past(values=found.past.values.with_values(item.value for item in ended if item.arm == "stable"))
    found = found.model_copy(update={"past": past})
    if fresh.now is None or _horizon_s(found, check, fresh) is None:
        return found
    return found.model_copy(update={"cohorts": Cohorts(settled_until=fresh.now)})


def _is_ranked(check: Check) -> bool:
    return check.kind == "typical" and check.is_relative


def _by_limit(found: Measurement, check: Check, due: list[Timed]) -> Measurement:
    """p95 of either kind, and the median against an absolute limit: who exceeds it."""
    if check.max is not None:
        stable_limit = limit = check.max
    else:
        worse = value_past(found.worse, found.past.values)
        known = quantiles.limits(worse) if isinstance(worse, RelativeQuantile) else None
        if known is None:
            raise ValueError(f"{check.name} is judged before stable's past is known")
        stable_limit, limit = known
    trials = exceedances(due, stable_limit, limit)
    block, risk = block_of(trials, found.risk)
    return found.model_copy(
        update={
            "worse": _exceeded(found.worse, found.past.values, block),
            "better": _exceeded(found.better, found.past.values, block),
            "risk": risk,
            "tally": found.tally.plus(block),
            "first_hit_at": first_hit(found, (t.started_at for t in trials if t.hit and t.arm == "candidate")),
        }
    )


def _exceeded(process: Any, past: Sketch, block: Block) -> Any:
    if isinstance(process, OneSample):
        return one_sample.update(process, block)
    return value_past(quantiles.update(value_past(process, past), block, ()), Sketch())


def _by_ranks(found: Measurement, check: Check, due: list[Timed], horizon_s: float) -> Measurement:
    """Typical values beside stable's: every user's first one. What exceeds the horizon is equally long in both arms."""
    first, risk = first_of_users(due, found.risk)
    is_time = check.reads.so_far is not None
    longest = {"candidate": horizon_s if is_time else LONG, "stable": LONG}
    if is_time:
        longest["stable"] = max(0.0, (horizon_s - check.increase) / check.ratio)
    values: dict[ArmName, list[float]] = {"stable": [], "candidate": []}
    for item in first:
        values[item.arm].append(item.value if item.value <= longest[item.arm] else LONG)
    stable, candidate = tuple(values["stable"]), tuple(values["candidate"])
    middle = found.past.values.quantile(0.5) or 0.0
    limit = check.ratio * middle + check.increase
    bad = [item.started_at for item in first if item.arm == "candidate" and item.value > limit]
    block = counts(len(stable), 0, len(candidate), len(bad))
    return found.model_copy(
        update={
            "worse": _ranked(found.worse, found.past.values, stable, candidate),
            "better": _ranked(found.better, found.past.values, stable, candidate),
            "risk": risk,
            "tally": found.tally.plus(block),
            "first_hit_at": first_hit(found, bad),
        }
    )


def _ranked(process: Any, past: Sketch, stable: tuple[float, ...], candidate: tuple[float, ...]) -> Any:
    return value_past(ranks.update(value_past(process, past), stable, candidate), Sketch())
