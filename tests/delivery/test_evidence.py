"""What counts as evidence, for whom, and that nothing counts twice."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from delivery.evidence import USERS_KEPT, Cursor, Evidence, Histogram, bucket_of, fold
from delivery.records import InFlight, Record, RecordPage

NOTHING = Evidence(epoch="r/1-canary", candidate_variant="new", stable_variant="old", candidate_role="served")


def record(seq: int, variant: str = "new", **more: Any) -> Record:
    values: dict[str, Any] = {
        "seq": seq,
        "request_id": f"q{seq}",
        "route": "tutor",
        "epoch": "r/1-canary",
        "variant": variant,
        "role": "served",
        "user": f"u{seq}",
        "started_at": 100.0 + seq,
        "duration_s": 0.5,
        "ttft_s": 0.2,
        "status": 200,
        "ok": True,
        "completion_tokens": 20,
    }
    return Record.model_validate(values | more)


def page(*records: Record, boot: str = "b", in_flight: tuple[InFlight, ...] = (), **more: Any) -> RecordPage:
    last = max((one.seq for one in records), default=0)
    values: dict[str, Any] = {"revision": 1, "lease_remaining_s": None, "dropped": 0, "last_seq": last, "now": 200.0}
    return RecordPage.model_validate(values | {"boot_id": boot, "records": records, "in_flight": in_flight} | more)


def folded(*pages: RecordPage, start: Evidence = NOTHING, gateway: str = "gw") -> Evidence:
    return fold(start, "r", {gateway: pages})


def test_a_repeated_page_counts_once() -> None:
    one = page(record(1), record(2, ok=False, error="status"))
    once, twice = folded(one), folded(one, start=folded(one))
    assert (once.candidate.requests, once.candidate.errors, once.user_requests) == (2, 1, 2)
    assert twice == once


def test_pages_that_overlap_add_only_what_is_new() -> None:
    first = folded(page(record(1), record(2), record(3)))
    assert folded(page(record(2), record(3), record(4)), start=first).candidate.requests == 4


def test_only_this_epochs_assigned_requests_are_compared() -> None:
    found = folded(
        page(
            record(1, epoch="r/0-shadow"),
            record(2, epoch="another/1-canary"),
            record(3, role="mirror"),
            record(4, "old", role="failover"),
            record(5, "third"),
            record(6),
            record(7, "old"),
        )
    )
    assert (found.candidate.requests, found.stable.requests) == (1, 1)


def test_in_shadow_the_copies_count_beside_what_stable_served() -> None:
    shadow = NOTHING.model_copy(update={"candidate_role": "mirror"})
    found = folded(page(record(1, role="mirror"), record(2), record(3, "old")), start=shadow)
    assert (found.candidate.requests, found.stable.requests) == (1, 1)


def test_a_request_that_stable_answered_in_the_end_failed_no_user_but_the_candidate() -> None:
    saved = (record(1, ok=False, error="status"), record(2, "old", role="failover", request_id="q1"))
    lost = (
        record(3, ok=False, error="connect"),
        record(4, "old", role="failover", request_id="q3", ok=False, user_ok=False, error="connect"),
    )
    found = folded(page(*saved, *lost))
    assert (found.candidate.errors, found.user_requests, found.failed_user_requests) == (2, 2, 1)


def test_users_failures_are_counted_over_the_whole_release() -> None:
    first = folded(page(record(1, "old", ok=False, user_ok=False)))
    later = folded(page(record(2, "old", epoch="r/2-full", user_ok=False)), start=first.restarted("r/2-full", "served"))
    assert later.failed_user_requests == 2
    assert later.stable.requests == 1


def test_another_stage_starts_with_nothing_but_its_place_in_the_records() -> None:
    before = folded(page(record(1), record(2)))
    after = before.restarted("r/2-full", "served")
    assert (after.candidate.requests, after.cursors) == (0, before.cursors)


def test_a_restarted_gateway_is_read_from_its_beginning() -> None:
    before = folded(page(record(1), record(2), record(3)))
    after = folded(page(record(1), record(2), boot="c"), start=before)
    assert (after.candidate.requests, after.restarts) == (5, 1)
    assert after.cursors["gw"] == Cursor(boot_id="c", seq=2)


def test_records_that_were_lost_are_counted() -> None:
    before = folded(page(record(1)))
    after = folded(page(record(5), dropped=3), start=before)
    assert (after.candidate.requests, after.dropped) == (2, 3)
    assert folded(page(record(5), dropped=3), start=after).dropped == 3


def test_two_gateways_have_records_of_their_own() -> None:
    both = fold(NOTHING, "r", {"one": [page(record(1))], "two": [page(record(1), boot="d")]})
    assert both.candidate.requests == 2
    assert set(both.cursors) == {"one", "two"}


def test_a_quick_failure_is_no_quick_answer_and_a_timeout_is_a_slow_one() -> None:
    found = folded(
        page(
            record(1, ok=False, error="connect", duration_s=0.001, ttft_s=None),
            record(2, ok=False, error="first_byte_timeout", duration_s=60.0, ttft_s=None),
            record(3, error="client_closed", duration_s=0.01, ttft_s=None),
        )
    )
    assert found.candidate.latency.n == 1
    assert found.candidate.latency.above(50.0) == (1, 1)
    assert found.candidate.ttft.n == 0


def test_what_is_in_flight_is_what_the_last_page_says() -> None:
    def hanging(variant: str, epoch: str = "r/1-canary") -> InFlight:
        return InFlight(route="tutor", epoch=epoch, variant=variant, role="served", user="u", started_at=150.0)

    first = folded(page(in_flight=(hanging("new"), hanging("old"), hanging("new", "r/0-shadow"))))
    assert [item.age_s for item in first.open_ages("new")] == [50.0]
    assert folded(page(now=300.0), start=first).open_ages("new") == []


def test_users_are_kept_up_to_a_bound() -> None:
    many = [record(seq, user=f"u{seq}") for seq in range(1, USERS_KEPT + 50)]
    found = folded(page(*many))
    assert len(found.candidate.users) == USERS_KEPT
    assert found.candidate.users_beyond == 49


def test_evidence_survives_the_ledger() -> None:
    found = folded(page(record(1, ok=False, error="status"), record(2), record(3, "old")))
    assert Evidence.model_validate_json(found.model_dump_json()) == found


@given(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=60), st.floats(0.001, 100.0))
def test_a_histogram_never_counts_surely_what_is_not_above(values: list[float], limit: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    surely, possibly = Histogram(counts=counts).above(limit)
    assert surely <= sum(value > limit for value in values) <= possibly


def test_a_histograms_quantile_is_exact_to_two_percent() -> None:
    generator = random.Random(3)
    values = sorted(generator.lognormvariate(0, 1) for _ in range(999))
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    quantile = Histogram(counts=counts).quantile(0.95)
    assert quantile is not None
    assert abs(quantile / values[949] - 1) < 0.02
