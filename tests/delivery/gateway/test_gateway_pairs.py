"""What both variants said to one request: kept where the table asks for it, bounded, redacted, and soon forgotten."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_world import CHAT, TOKEN, Running, World, eventually, table_for
from hypothesis import given
from hypothesis import strategies as st
from stub_upstream import refuses, says

from configs.routing import RoutingTable
from configs.traffic_log import Redaction, TrafficLog
from delivery.gateway.records.pairs import MOST_BYTES, Bounded
from delivery.traffic.assignment import is_captured, mirrored_to
from delivery.traffic.pairs import Pair

MIRRORED = {"variant": "new", "mirror_bp": 10_000}
CAPTURED = {"candidate": MIRRORED | {"capture_bp": 10_000}}


def pairs(running: Running, count: int) -> tuple[Pair, ...]:
    """As soon as there are so many."""
    eventually(lambda: len(running.admin.pairs(0).pairs) >= count)
    return running.admin.pairs(0).pairs


def finished(running: Running, attempts: int) -> None:
    running.wait_for_records(attempts)


@pytest.mark.parametrize("stream", [False, True])
def test_both_answers_to_a_mirrored_request_can_be_read_with_the_request(world: World, stream: bool) -> None:
    running = world.gateway(table_for(world.upstream().url, **CAPTURED))
    running.ask(user="ada", stream=stream)
    (pair,) = pairs(running, 1)
    assert (pair.stable.strip(), pair.candidate.strip()) == ("I am old-model", "I am new-model")
    assert (pair.asked, pair.route, pair.epoch) == (CHAT["messages"], "tutor", "e1")
    records = {record.role: record for record in running.records()}
    assert (pair.request_id, pair.user) == (records["mirror"].request_id, records["served"].user)
    assert pair.started_at == records["mirror"].started_at


def test_nothing_is_kept_unless_the_table_asks_for_it(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, candidate=MIRRORED))
    running.ask()
    finished(running, 2)
    page = running.admin.pairs(0)
    assert (page.pairs, page.last_seq) == ((), 0)
    (attempt,) = [a for a in running.gateway.attempts._ring if getattr(a, "role", "") == "mirror"]
    assert attempt.said is None


def test_texts_are_gone_with_the_table_that_asked_for_them(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, **CAPTURED))
    running.ask()
    pairs(running, 1)
    running.admin.put_table(table_for(stub.url, revision=2, epoch="e2", **CAPTURED))
    assert running.admin.pairs(0).pairs == ()
    running.ask()
    assert [pair.epoch for pair in pairs(running, 1)] == ["e2"]
    running.admin.put_table(table_for(stub.url, revision=3, epoch="e2", candidate=MIRRORED))
    assert running.admin.pairs(0).pairs == ()


def test_pairs_are_read_on_from_a_number_a_part_at_a_time(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **CAPTURED))
    for _ in range(5):
        running.ask()
    pairs(running, 5)
    first = running.admin.pairs(0, 2)
    assert ([pair.seq for pair in first.pairs], first.last_seq) == ([1, 2], 5)
    assert [pair.seq for pair in running.admin.pairs(2).pairs] == [3, 4, 5]


def test_a_failed_answer_makes_no_pair(world: World) -> None:
    running = world.gateway(table_for(world.upstream(**{"new-model": refuses(500)}).url, **CAPTURED))
    running.ask()
    finished(running, 2)
    assert running.admin.pairs(0).pairs == ()


def test_personal_data_is_taken_out_before_texts_leave(world: World, tmp_path: Path) -> None:
    stub = world.upstream(**{"new-model": says("Write to ada@example.org")})
    asked = [{"role": "user", "content": "I am bob@example.org, code swordfish"}]
    running = world.gateway(table_for(stub.url, **CAPTURED))
    running.ask(messages=asked)
    (pair,) = pairs(running, 1)
    assert pair.candidate == "Write to [e-mail]"
    assert pair.asked[0]["content"] == "I am [e-mail], code swordfish"
    own = TrafficLog(folder=tmp_path, redact=(Redaction(pattern="swordfish", replacement="[code]"),))
    running = world.gateway(table_for(stub.url, **CAPTURED), traffic_log=own)
    running.ask(messages=asked)
    (pair,) = pairs(running, 1)
    assert pair.asked[0]["content"] == "I am bob@example.org, code [code]"


def test_a_request_that_is_too_large_is_left_out_and_counted(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **CAPTURED))
    running.ask(messages=[{"role": "user", "content": "x" * MOST_BYTES}])
    eventually(lambda: running.admin.pairs(0).left_out == 1)
    finished(running, 2)
    assert running.admin.pairs(0).pairs == ()


def test_texts_are_shown_to_the_admin_token_alone(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **CAPTURED))
    running.ask()
    pairs(running, 1)
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert httpx.get(running.admin_url + "/admin/pairs", headers=headers, trust_env=False).status_code == 401
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert running.http.get("/admin/pairs", headers=right).status_code == 404  # not on the users' side
    refused = httpx.get(running.admin_url + "/admin/pairs?after=-1", headers=right, trust_env=False)
    assert refused.status_code == 422


def test_a_sample_of_the_copied_requests_is_kept() -> None:
    table = table_for("http://x", candidate={"variant": "new", "mirror_bp": 5000, "capture_bp": 2000})
    assert isinstance(table, RoutingTable)
    route, ids = table.routes["tutor"], [f"q{n}" for n in range(4000)]
    kept = [i for i in ids if is_captured(route, i)]
    assert 300 < len(kept) < 500
    assert all(mirrored_to(route, i, lease_valid=True) == "new" for i in kept)


@given(puts=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60))), most=st.integers(1, 8))
def test_what_is_kept_is_bounded_in_number_and_bytes_and_the_newest(puts: list[tuple[int, int]], most: int) -> None:
    kept: Bounded[int, Any] = Bounded(most, 100)
    for key, size in puts:
        kept.put(key, (key, size), size)
        assert len(kept) <= most
        assert kept.bytes == sum(size for _, (_, size) in kept.items()) <= 100
    newest = list(dict.fromkeys(key for key, _ in reversed(puts)))
    assert [key for key, _ in reversed(kept.items())] == newest[: len(kept)]
