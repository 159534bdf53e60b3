"""Records as they really come - slow answers late, some still in flight - judged every second: who is condemned?"""

import random
from collections import Counter

import pytest
from traffic_of import CANARY, NOTHING, page, plan_of, record, running

from configs.checks import Check
from delivery.checks.fold import fold
from delivery.checks.verdicts import judge

CHECKS = (
    Check(metric="latency_p95_s", max_ratio=1.5),
    Check(metric="latency_typical_s", max_ratio=1.5),
    Check(metric="completion_tokens_typical", max_ratio=1.5),
)
PLAN = plan_of(*CHECKS)
RUNS, TICKS, REQUESTS = 40, 25, 16


def ever_shown(slower: float, seed: int) -> tuple[set[str], set[str]]:
    """The checks whose evidence for worse, and for within the limit, ever sufficed in one canary at 50 %."""
    draw, found, seq = random.Random(seed), NOTHING, 0
    under_way: list[tuple[float, float, str, float, str]] = []
    worse: set[str] = set()
    better: set[str] = set()
    for tick in range(TICKS):
        for _ in range(REQUESTS):
            started_at, variant = 1000 + tick + draw.random(), draw.choice(("old", "new"))
            took_s = (slower if variant == "new" else 1.0) * draw.lognormvariate(0, 0.8)
            under_way.append((started_at + took_s, started_at, variant, took_s, f"user-{draw.random()}"))
        now = 1001.0 + tick
        ended = sorted(item for item in under_way if item[0] <= now)
        under_way = [item for item in under_way if item[0] > now]
        records = []
        for _, started_at, variant, took_s, user in ended:
            seq += 1
            values = {"started_at": started_at, "duration_s": took_s, "completion_tokens": int(40 * took_s) + 1}
            records.append(record(seq, variant, user=user, **values))
        flying = [running(variant, started_at, user=user) for _, started_at, variant, _, user in under_way]
        one = page(*records, now=now, last_seq=seq, in_flight=flying)
        found = fold(found, PLAN, CANARY, "r", {"gw": [one]})
        for result in judge(PLAN, CANARY, found).results:
            worse |= {result.check} if result.e_worse >= 20 else set()
            better |= {result.check} if result.e_better >= 20 else set()
    return worse, better


def shares(slower: float) -> tuple[dict[str, float], dict[str, float]]:
    worse: Counter[str] = Counter()
    better: Counter[str] = Counter()
    for seed in range(RUNS):
        shown = ever_shown(slower, seed)
        worse.update(shown[0])
        better.update(shown[1])
    return {c.name: worse[c.name] / RUNS for c in CHECKS}, {c.name: better[c.name] / RUNS for c in CHECKS}


def test_a_candidate_exactly_at_its_limit_is_rarely_condemned_or_promoted() -> None:
    worse, better = shares(1.5)
    assert max(worse.values()) <= 0.05
    assert max(better.values()) <= 0.05


@pytest.mark.parametrize(("slower", "side"), [(6.0, 0), (0.5, 1)])
def test_what_is_far_from_its_limit_is_told_by_typical_values(slower: float, side: int) -> None:
    shown = shares(slower)
    for check in CHECKS[1:]:
        assert shown[side][check.name] >= 0.9
        assert shown[1 - side][check.name] == 0
