"""Several processes' records, figures and budgets as one: arithmetic, without any process."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from gateway_world import Clock, table_for
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from test_gateway_keys import ADA, entry

from configs.api_keys import ApiKeys
from delivery.gateway.keys.access import Keys
from delivery.gateway.records.metrics import FORMER_KEPT
from delivery.gateway.workers.bank import Bank
from delivery.gateway.workers.merged_metrics import MergedMetrics, as_page, merged_upstreams
from delivery.gateway.workers.merged_pairs import MergedPairs
from delivery.gateway.workers.merged_records import WORKER_DIED, MergedRecords
from delivery.traffic.records import RecordPage

SOME = {"route": "tutor", "epoch": "e1", "variant": "old", "role": "served", "user": "", "started_at": 100.0}


def record(seq: int, request_id: str, **more: Any) -> dict[str, Any]:
    told = {"duration_s": 1.0, "ttft_s": None, "status": 200, "ok": True}
    return {"seq": seq, "request_id": request_id, **SOME, **told, **more}


def page(*records: dict[str, Any], **more: Any) -> dict[str, Any]:
    last = max((item["seq"] for item in records), default=0)
    told = {"records": list(records), "feedback": [], "in_flight": [], "dropped": 0, "last_seq": last, "now": 200.0}
    return told | more


def of_worker(source: int, count: int) -> list[dict[str, Any]]:
    return [record(number, f"{source}-{number}") for number in range(1, count + 1)]


def shown(merged: MergedRecords, after: int = 0, limit: int = 10_000) -> RecordPage:
    rest = {"revision": 1, "lease_remaining_s": None}
    return RecordPage.model_validate(merged.page(after, limit) | rest)


# -- records --------------------------------------------------------------------------------------------------------


@given(turns=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=30), limit=st.integers(1, 7))
def test_every_record_of_every_worker_is_there_once_however_they_are_heard_and_read(
    turns: list[tuple[int, int]], limit: int
) -> None:
    merged, told = MergedRecords(1000, "b"), Counter[int]()
    for source in range(3):
        merged.began(source, 100.0)
    for source, count in turns:
        told[source] += count
        merged.add(source, page(*of_worker(source, told[source])[merged.cursor(source) :]))
    read, after = [], 0
    while found := shown(merged, after, limit).records:
        read += [(item.seq, item.request_id) for item in found]
        after = found[-1].seq
    assert [seq for seq, _ in read] == list(range(1, told.total() + 1))
    for source in range(3):
        of_this = [request_id for _, request_id in read if request_id.startswith(f"{source}-")]
        assert of_this == [f"{source}-{number}" for number in range(1, told[source] + 1)]


def test_what_left_the_sequence_before_it_was_read_is_counted() -> None:
    merged = MergedRecords(3, "b")
    merged.began(1, 100.0)
    merged.add(1, page(*of_worker(1, 5)))
    found = shown(merged)
    assert ([item.seq for item in found.records], found.dropped, found.last_seq) == ([3, 4, 5], 2, 5)


def test_so_is_what_left_a_worker_before_it_was_heard() -> None:
    merged = MergedRecords(10, "b")
    merged.began(1, 100.0)
    merged.add(1, page(*of_worker(1, 6)[4:], dropped=4))
    found = shown(merged)
    assert ([item.seq for item in found.records], found.dropped) == ([5, 6], 4)


def test_the_clock_stands_where_the_slowest_worker_was_heard() -> None:
    merged = MergedRecords(10, "b")
    merged.began(1, 100.0)
    merged.began(2, 100.0)
    merged.add(1, page(now=205.0))
    assert shown(merged).now == 100.0
    merged.add(2, page(now=203.0))
    assert shown(merged).now == 203.0
    merged.ended(2, 210.0)
    assert shown(merged).now == 205.0
    merged.ended(1, 210.0)
    assert shown(merged).now == 205.0


def test_a_page_that_was_cut_leaves_the_worker_behind() -> None:
    merged = MergedRecords(10, "b")
    merged.began(1, 100.0)
    merged.add(1, page(*of_worker(1, 2), last_seq=3))
    assert merged.is_behind(1)
    merged.add(1, page(record(3, "1-3")))
    assert not merged.is_behind(1)


def test_users_who_waited_for_a_worker_that_died_are_on_record_and_nobody_failed_but_the_worker() -> None:
    merged = MergedRecords(10, "b")
    merged.began(1, 100.0)
    merged.add(1, page(record(1, "1-1"), in_flight=[SOME | {"ttft_s": 0.5}, SOME | {"ttft_s": None, "role": "mirror"}]))
    assert len(shown(merged).in_flight) == 2
    (lost,) = merged.ended(1, 104.0)
    assert (lost.error, lost.ok, lost.user_ok, lost.duration_s) == (WORKER_DIED, True, False, 4.0)
    found = shown(merged)
    assert [item.error for item in found.records] == ["", WORKER_DIED]
    assert found.in_flight == ()


def test_an_answer_can_be_found_until_its_worker_or_its_record_is_gone() -> None:
    merged = MergedRecords(2, "b")
    merged.began(1, 100.0)
    merged.began(2, 100.0)
    merged.add(1, page(record(1, "a"), record(2, "b", ok=False)))
    assert (merged.source_of("a"), merged.source_of("b")) == (1, None)
    merged.add(2, page(record(1, "b")))  # another worker's; the oldest goes
    assert (merged.source_of("a"), merged.source_of("b")) == (None, 2)
    merged.ended(2, 200.0)
    assert merged.source_of("b") is None


# -- figures --------------------------------------------------------------------------------------------------------

LABELS = ("route", "variant")


def figures(counts: dict[tuple[str, str], int], up: int = 1) -> list[dict[str, Any]]:
    counter = CounterMetricFamily("slipway_attempts", "Attempts.", labels=LABELS)
    seconds = HistogramMetricFamily("slipway_answer_seconds", "Time.", labels=LABELS)
    now = GaugeMetricFamily("slipway_in_flight", "Now.", labels=LABELS)
    for place, count in counts.items():
        counter.add_metric(place, count)
        seconds.add_metric(place, [("1.0", count / 2), ("+Inf", count)], count * 0.5)
        now.add_metric(place, count)
    is_up = GaugeMetricFamily("slipway_upstream_up", "Up.", labels=("upstream",))
    is_up.add_metric(("u",), up)
    return as_page((counter, seconds, now, is_up))


def samples(merged: MergedMetrics) -> dict[str, float]:
    return {
        "{}{{{}}}".format(sample.name, ",".join(sample.labels.values())): sample.value
        for family in merged.collect()
        for sample in family.samples
    }


PLACE = ("tutor", "old")


def lives() -> Any:
    """Per worker, one process after another: what each counts from one hearing to the next."""
    return st.lists(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=3), min_size=1, max_size=3)


@given(workers=lives(), order=st.randoms(use_true_random=False))
def test_counters_are_the_sum_over_all_processes_that_ever_were_and_never_fall(workers: Any, order: Any) -> None:
    merged, total, before = MergedMetrics(), 0, 0.0
    running = [_life(merged, number * 100, lives) for number, lives in enumerate(workers)]
    while running:
        worker = order.choice(running)
        try:
            total += next(worker)
        except StopIteration:
            running.remove(worker)
        now = samples(merged).get("slipway_attempts_total{tutor,old}", 0.0)
        assert now >= before
        before = now
    assert before == total
    if total:
        assert samples(merged)["slipway_answer_seconds_count{tutor,old}"] == total
        assert samples(merged)["slipway_answer_seconds_bucket{1.0,tutor,old}"] == total / 2


def _life(merged: MergedMetrics, source: int, processes: list[list[int]]) -> Iterator[int]:
    for process in processes:
        source, count = source + 1, 0
        for more in process:
            count += more
            merged.add(source, figures({PLACE: count}))
            yield more
        merged.ended(source)
        yield 0


def test_gauges_are_those_of_the_living() -> None:
    merged = MergedMetrics()
    merged.add(1, figures({PLACE: 2}))
    merged.add(2, figures({PLACE: 3}, up=0))
    found = samples(merged)
    assert (found["slipway_in_flight{tutor,old}"], found["slipway_upstream_up{u}"]) == (5, 0)
    merged.ended(2)
    found = samples(merged)
    assert (found["slipway_in_flight{tutor,old}"], found["slipway_upstream_up{u}"]) == (2, 1)


def test_the_series_of_former_variants_are_bounded() -> None:
    merged = MergedMetrics()
    for number in range(FORMER_KEPT + 20):
        merged.add(1, figures({("tutor", f"v{number}"): 1}))
    merged.keep_only(table_for("http://a"))
    kept = [name for name in samples(merged) if name.startswith("slipway_attempts_total")]
    assert len(kept) == FORMER_KEPT + 1  # and the one that a worker shows
    assert f"slipway_attempts_total{{tutor,v{FORMER_KEPT + 19}}}" in kept
    assert "slipway_attempts_total{tutor,v0}" not in kept


def test_a_replica_is_up_when_all_workers_say_so_and_has_the_models_that_all_have_seen() -> None:
    seen = {"url": "u", "up": True, "draining": False, "in_flight": 2, "models": ["a", "b"], "failures": {"connect": 1}}
    other = seen | {"up": False, "models": ["b"], "failures": {"connect": 2, "status": 1}}
    (merged,) = merged_upstreams([[seen], [other]])
    assert (merged["up"], merged["in_flight"], merged["models"]) == (False, 4, ["b"])
    assert merged["failures"] == {"connect": 3, "status": 1}
    assert merged_upstreams([[seen], [seen | {"models": None}]])[0]["models"] is None


# -- pairs of answers -----------------------------------------------------------------------------------------------


def test_pairs_of_all_workers_have_numbers_of_their_own_and_go_with_the_table_that_asked_for_them() -> None:
    table = table_for("http://a", candidate={"variant": "new", "mirror_bp": 10_000, "capture_bp": 10_000})
    merged, pair = MergedPairs("b"), {"request_id": "r", "route": "tutor", "epoch": "e1"}
    for source in (1, 2):
        told = {"pairs": [pair | {"seq": 1}, pair | {"seq": 2}], "last_seq": 2, "left_out": 1}
        merged.add(source, told, table)
        merged.add(source, {"pairs": [pair | {"seq": 2}], "last_seq": 2, "left_out": 1}, table)  # twice
    found = merged.page(1, 2)
    assert ([one["seq"] for one in found["pairs"]], found["last_seq"], found["left_out"]) == ([2, 3], 4, 2)
    merged.add(1, {"pairs": [pair | {"seq": 3, "epoch": "e0"}], "last_seq": 3, "left_out": 1}, table)
    assert merged.page(0, 9)["last_seq"] == 4
    merged.keep_only(table_for("http://a"))
    assert merged.page(0, 9)["pairs"] == []


# -- budgets --------------------------------------------------------------------------------------------------------


def bank_of(workers: int, clock: Clock, **limits: Any) -> tuple[Bank, Keys]:
    keys = Keys(True, clock, clock)
    keys.replace(ApiKeys.model_validate({"keys": [entry(ADA, **limits)]}))
    return Bank(keys, workers, clock), keys


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "use", "return", "die", "wait"]), st.integers(0, 2), st.floats(0, 20)),
    max_size=60,
)


@given(capacity=st.integers(1, 100), steps=STEPS)
def test_all_workers_together_never_use_more_than_the_budget_and_what_came_in(
    capacity: int, steps: list[tuple[str, int, float]]
) -> None:
    clock = Clock(0.0)
    bank, _ = bank_of(3, clock, requests_per_minute=capacity)
    held, used = Counter[int](), 0
    for what, source, seconds in steps:
        if what == "ask":
            held[source] += bank.lend(source, "ada", request=True, slot=False).requests
        elif what == "use" and held[source]:
            held[source] -= 1
            used += 1
        elif what == "return":
            bank.take_back(source, "ada", held.pop(source, 0), 0)
        elif what == "die":
            held.pop(source, None)
            bank.ended(source)
        elif what == "wait":
            clock.now += seconds
        assert used + held.total() <= capacity * (1 + clock.now / 60) + 1e-6


@given(capacity=st.integers(1, 100), steps=STEPS)
def test_nor_more_tokens_but_for_debts_which_are_paid_off_first(
    capacity: int, steps: list[tuple[str, int, float]]
) -> None:
    clock = Clock(0.0)
    bank, _ = bank_of(3, clock, tokens_per_minute=capacity, tokens_per_day=1000)
    held, used, owed = Counter[int](), 0, 0
    for what, source, seconds in steps:
        if what == "ask":
            need = min(capacity, 1 + int(seconds))
            loan = bank.lend_tokens("ada", need, 2 * need)
            assert loan.tokens >= need or loan.wait_s > 0
            held[source] += loan.tokens
        elif what == "use" and held[source]:
            used += held[source] + 3  # an answer was longer than was thought
            owed += 3
            held[source] = 0
            bank.take_back(source, "ada", 0, 0, -3)
        elif what == "return":
            bank.take_back(source, "ada", 0, 0, held.pop(source, 0))
        elif what == "wait":
            clock.now += seconds
        assert used + held.total() <= capacity * (1 + clock.now / 60) + owed + 1e-6


def test_tokens_that_are_not_there_are_refused_with_the_limit_and_the_time() -> None:
    bank, _ = bank_of(3, Clock(), tokens_per_minute=100, tokens_per_day=120)
    assert bank.lend_tokens("ada", 60, 90).tokens == 90
    loan = bank.lend_tokens("ada", 40, 40)
    assert (loan.tokens, loan.limit, loan.wait_s) == (0, "tokens_per_minute", pytest.approx(18))
    assert bank.lend_tokens("ada", 5, 90).tokens == 10


@given(most=st.integers(1, 20), steps=STEPS)
def test_no_more_places_are_lent_than_there_are_and_the_dead_give_theirs_back(
    most: int, steps: list[tuple[str, int, float]]
) -> None:
    bank, _ = bank_of(3, Clock(), concurrent_requests=most)
    held = Counter[int]()
    for what, source, _ in steps:
        if what == "ask":
            loan = bank.lend(source, "ada", request=False, slot=True)
            assert bool(loan.slots) == (held.total() < most)
            held[source] += loan.slots
        elif what == "return":
            bank.take_back(source, "ada", 0, held.pop(source, 0))
        elif what == "die":
            held.pop(source, None)
            bank.ended(source)
        assert held.total() <= most


def test_whoever_lends_all_of_a_budget_lends_it_to_the_last_request() -> None:
    bank, _ = bank_of(3, Clock(), requests_per_minute=100)
    lots = []
    while loan := bank.lend(len(lots) % 3, "ada", request=True, slot=False).requests:
        lots.append(loan)
    assert sum(lots) == 100
    assert (lots[0], lots[-1]) == (8, 1)
