"""A tick's requests as outcomes of a rate: errors, broken contracts, negative ratings, escalations; single or in pairs.

Counted are users: the first hit of a user counts, and who had one leaves the risk set (delivery.analysis.outcomes).
Feedback comes later than its answer, and most answers never get any: an answer counts as a miss when it ends, feedback
as one more outcome, a hit, when it comes. Both arms are treated alike.

A candidate's failure at a request at which stable, asked instead, failed in the same way is not held against it. It
does not speak for it either: stable's own failures are never excused, so that a pass is judged with all of them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from configs.checks import Check
from delivery.analysis import one_sample, pairs, two_sample
from delivery.analysis.family import TestProcess
from delivery.analysis.one_sample import OneSample
from delivery.analysis.outcomes import RiskSet, Trial, block_of
from delivery.analysis.two_sample import Block, TwoSample
from delivery.checks.measurement import Fresh, Half, Measurement, Past, first_hit
from delivery.traffic.records import Record

HALVES_KEPT = 2000


class OfUser(Protocol):
    """Whatever a pair is told from: a record, or what a judge said."""

    @property
    def user(self) -> str:
        """The user's pseudonym, or ""."""


P = TypeVar("P", bound=OfUser)


def with_rates(found: Measurement, check: Check, fresh: Fresh) -> Measurement:
    """One more tick, request by request."""
    trials: list[Trial] = []
    excused: list[Trial] = []  # of them, what is held against nobody
    unusable, reads = 0, check.reads
    for arm, records in fresh.of_arms():
        for record in records:
            hit = reads.of(record, fresh.prices)
            if hit is not None or reads.missing == "no":
                trials.append(Trial(arm, record.user, record.started_at, bool(hit)))
                if hit and arm == "candidate" and record.request_id in fresh.excused:
                    excused.append(trials.pop())
            elif arm == "candidate" and record.ok and not record.error:
                unusable += 1
    if reads.said is not None:
        bad = ((arm, opinion) for arm, opinion in fresh.feedback if reads.said(opinion))
        trials += (Trial(arm, opinion.user, opinion.started_at, True) for arm, opinion in bad)
    if not trials and not excused and not unusable:
        return found
    raw, _ = block_of([*trials, *excused], found.risk)
    block, risk = block_of([*trials, *(trial._replace(hit=False) for trial in excused)], found.risk)
    hits, n = block.stable[1], sum(block.stable)
    return found.model_copy(
        update={
            "worse": _updated(found.worse, block),
            "better": _updated(found.better, raw),
            "risk": risk,
            "tally": found.tally.plus(block),
            "past": Past(n=found.past.n + n, hits=found.past.hits + hits),
            "unusable": found.unusable + unusable,
            "first_hit_at": first_hit(found, (t.started_at for t in trials if t.hit and t.arm == "candidate")),
        }
    )


def with_pairs(found: Measurement, check: Check, fresh: Fresh) -> Measurement:
    """One more tick of shadow: answers to the same request, by its id, once both have ended."""
    waiting, unusable = dict(found.waiting), 0
    complete: list[tuple[Record, float, float]] = []
    values: list[float] = []
    value_of = _half_of(check, fresh)
    for arm, records in fresh.of_arms():
        for record in records:
            value = value_of(record)
            if value is None:
                unusable += arm == "candidate" and record.ok and not record.error
                continue
            if arm == "stable" and check.kind != "rate":
                values.append(value)
            other = waiting.pop(record.request_id, None)
            if other is None or other.arm == arm:
                waiting[record.request_id] = Half(arm=arm, value=value, started_at=record.started_at)
            else:
                stable, candidate = (other.value, value) if arm == "candidate" else (value, other.value)
                complete.append((record, stable, candidate))
    for old in list(waiting)[: max(0, len(waiting) - HALVES_KEPT)]:
        del waiting[old]
    chosen, risk = at_risk(complete, found.risk, is_left_by_all=check.kind != "rate")
    return _with_block(found, check, chosen).model_copy(
        update={
            "risk": risk,
            "waiting": waiting,
            "unusable": found.unusable + unusable,
            "past": _past(found.past, check, chosen, values),
        }
    )


def _with_block(found: Measurement, check: Check, chosen: list[tuple[Record, float, float]]) -> Measurement:
    """Both processes, what people read, and when the first bad answer began."""
    if not chosen:
        return found
    ratio, more = check.ratio, check.increase
    both = [(stable, candidate) for _, stable, candidate in chosen]
    if check.kind == "rate":
        levels = pairs.tally_rates((bool(stable), bool(candidate)) for stable, candidate in both)
        bad = [record.started_at for record, stable, candidate in chosen if candidate > stable]
        stable_hits, hits = sum(int(s) for s, _ in both), sum(int(c) for _, c in both)
        values = found.values
    else:
        levels = pairs.tally_signs(both, ratio, more)
        bad = [record.started_at for record, stable, candidate in chosen if candidate > ratio * stable + more]
        stable_hits, hits, values = 0, len(bad), found.values.with_values(c for _, c in both)
    block = Block(stable=(0,) * len(levels), candidate=levels)
    n = len(chosen)
    return found.model_copy(
        update={
            "worse": _updated(found.worse, block),
            "better": _updated(found.better, block),
            "tally": found.tally.plus(two_sample.counts(n, stable_hits, n, hits)),
            "values": values,
            "first_hit_at": first_hit(found, bad),
        }
    )


def at_risk(
    complete: Sequence[tuple[P, float, float]], risk: RiskSet, *, is_left_by_all: bool
) -> tuple[list[tuple[P, float, float]], RiskSet]:
    """A user gives one pair per tick, and none after one whose answers differ (`is_left_by_all`: after any)."""
    gone = risk.opened()
    first: dict[str, tuple[P, float, float]] = {}
    alone = []
    for pair in complete:
        user, stable, candidate = pair[0].user, pair[1], pair[2]
        if not user:
            alone.append(pair)
        elif user not in gone:
            known = first.get(user)
            if known is None or (known[1] == known[2] and stable != candidate):
                first[user] = pair
    for user, (_, stable, candidate) in first.items():
        if is_left_by_all or stable != candidate:
            gone.add(user)
    return [*alone, *first.values()], gone.closed() if gone.grew else risk


def _half_of(check: Check, fresh: Fresh) -> Callable[[Record], float | None]:
    """Tells an answer's part of its pair; None when it has none."""
    reads = check.reads

    def value(record: Record) -> float | None:
        found = reads.of(record, fresh.prices)
        return float(found) if found is not None and 0 <= found < math.inf else None

    return value


def _past(past: Past, check: Check, chosen: list[tuple[Record, float, float]], values: list[float]) -> Past:
    if check.kind == "rate":
        return Past(n=past.n + len(chosen), hits=past.hits + sum(int(stable) for _, stable, _ in chosen))
    return Past(values=past.values.with_values(values)) if values else past


def _updated(process: TestProcess, block: Block) -> TestProcess:
    if isinstance(process, OneSample):
        return one_sample.update(process, block)
    if isinstance(process, TwoSample):
        return two_sample.update(process, block)
    raise TypeError(f"{process.kind} is no test of a rate")
