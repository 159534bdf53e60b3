"""The admin API, through the client that the controller uses, and by hand."""

from typing import Any

import httpx
import pytest
from gateway_world import CHAT, TOKEN, World, all_to_new, eventually, table_for
from prometheus_client.parser import text_string_to_metric_families
from stub_upstream import hangs, refuses

from configs.routing import RoutingTable
from delivery.clients.gateway import GatewayClient, GatewayError

UP = "http://127.0.0.1:9"
PATHS = [
    ("GET", "/admin/table"),
    ("PUT", "/admin/table"),
    ("POST", "/admin/lease"),
    ("GET", "/admin/records"),
    ("GET", "/admin/upstreams"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
def test_without_the_token_nothing_is_shown_or_changed(
    world: World, method: str, path: str, header: str | None
) -> None:
    running = world.gateway()
    body = table_for(UP).model_dump_json()
    headers = {"Authorization": header} if header else {}
    response = running.http.request(method, running.admin_url + path, content=body, headers=headers)
    assert response.status_code == 401
    assert running.admin.table() is None


def test_the_admin_paths_are_not_on_the_users_listener_even_with_the_token(world: World) -> None:
    running = world.gateway()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert running.http.get("/admin/table", headers=headers).status_code == 404
    assert running.http.get("/metrics", headers=headers).status_code == 404


def test_without_a_token_there_is_no_admin_listener(world: World) -> None:
    assert world.gateway(admin_token="").gateway.admin_port == 0


def test_a_table_comes_back_as_it_was_put(world: World) -> None:
    running = world.gateway()
    assert running.admin.table() is None
    assert running.admin.ready()
    table = table_for(UP, **all_to_new())
    running.admin.put_table(table)
    assert running.admin.table() == table


def test_the_same_table_again_is_fine_a_lower_revision_or_another_content_is_not(world: World) -> None:
    running = world.gateway(table_for(UP, revision=5))
    running.admin.put_table(table_for(UP, revision=5))
    for other in (table_for(UP, revision=4), table_for(UP, revision=5, salt="other")):
        with pytest.raises(GatewayError) as refused:
            running.admin.put_table(other)
        assert refused.value.status == 409
    assert running.admin.table() == table_for(UP, revision=5)
    running.admin.put_table(table_for(UP, revision=6, salt="other"))


def test_only_the_served_revisions_lease_can_be_renewed(world: World) -> None:
    running = world.gateway()
    for put in (None, table_for(UP, revision=2, **all_to_new())):
        if put:
            running.admin.put_table(put)
        with pytest.raises(GatewayError) as refused:
            running.admin.renew(1)
        assert refused.value.status == 409
    running.admin.renew(2)


def test_every_problem_of_a_bad_table_is_listed(world: World) -> None:
    running = world.gateway(table_for(UP))
    bad = {"revision": -1, "leese_s": 3, "routes": {"tutor": {"salt": "", "stable": "x", "variants": {}}}}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = running.http.put(running.admin_url + "/admin/table", json=bad, headers=headers)
    assert response.status_code == 422
    places = {problem["where"] for problem in response.json()["error"]["problems"]}
    assert {"revision", "leese_s", "routes.tutor.salt", "routes.tutor.variants"} <= places
    assert running.admin.table() == table_for(UP)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"upstreams": ["ftp://x"]}, "upstreams"),
        ({"upstreams": ["http://"]}, "upstreams"),
        ({"upstreams": ["http://user:word@x"]}, "upstreams"),
        ({"upstreams": ["http://x:99999"]}, "upstreams"),
        ({"upstreams": ["http://x/?a=b"]}, "upstreams"),
        ({"upstreams": ["http://x\r\nHost: y"]}, "upstreams"),
    ],
)
def test_an_upstream_that_is_no_base_url_is_refused(world: World, change: dict[str, Any], named: str) -> None:
    running = world.gateway()
    table = table_for(UP).model_dump(mode="json")
    table["routes"]["tutor"]["variants"]["old"] |= change
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = running.http.put(running.admin_url + "/admin/table", json=table, headers=headers)
    assert response.status_code == 422
    (problem,) = response.json()["error"]["problems"]
    assert named in problem["where"]
    assert problem["cure"]


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: x", "", "ü", "x" * 129, 'a"b'])
def test_names_that_would_not_survive_a_header_or_a_label_are_refused(world: World, name: str) -> None:
    running = world.gateway()
    route = table_for(UP).routes["tutor"]
    for table in (
        RoutingTable(revision=1, routes={name: route}),
        table_for(UP, variants={name: {"model": "m", "upstreams": [UP]}}),
    ):
        with pytest.raises(GatewayError) as refused:
            running.admin.put_table(table)
        assert refused.value.status == 422


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=1.5", "after=99999999999999999999"])
def test_a_page_of_records_needs_whole_numbers(world: World, query: str) -> None:
    running = world.gateway()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert running.http.get(f"{running.admin_url}/admin/records?{query}", headers=headers).status_code == 422


def test_records_are_read_page_by_page_and_what_left_the_ring_is_counted(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url), records_kept=10)
    for _ in range(14):
        running.ask()
    page = running.admin.records(0, limit=4)
    assert [record.seq for record in page.records] == [5, 6, 7, 8]
    assert (page.dropped, page.last_seq, page.revision) == (4, 14, 1)
    page = running.admin.records(8)
    assert [record.seq for record in page.records] == [9, 10, 11, 12, 13, 14]
    assert page.dropped == 0
    assert running.admin.records(14).records == ()
    assert running.admin.records(500).dropped == 0
    assert len({record.request_id for record in running.records()}) == 10


def test_what_is_under_way_is_shown_before_it_ends(world: World) -> None:
    running = world.gateway(table_for(world.upstream(**{"old-model": hangs}).url))
    with pytest.raises(httpx.ReadTimeout):
        running.http.post("/v1/chat/completions", json={**CHAT, "user": "ada"}, timeout=0.05)
    eventually(lambda: running.admin.records(0).last_seq == 1)
    stub = world.upstream(**{"new-model": hangs})
    running.admin.put_table(table_for(stub.url, revision=2, candidate={"variant": "new", "mirror_bp": 10_000}))
    running.ask(user="ada")
    eventually(lambda: len(stub.asked("new-model")) == 1)
    (flight,) = running.admin.records(0).in_flight
    assert (flight.route, flight.variant, flight.role, flight.epoch) == ("tutor", "new", "mirror", "e1")


def test_every_start_has_a_name_of_its_own(world: World) -> None:
    assert world.gateway().admin.records(0).boot_id != world.gateway().admin.records(0).boot_id


def test_metrics_count_by_variant_role_and_outcome(world: World) -> None:
    stub = world.upstream(**{"new-model": refuses(500)})
    running = world.gateway(table_for(stub.url, **all_to_new()))
    running.ask()
    running.ask(model="other")
    values = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(running.metrics())
        for sample in family.samples
    }
    assert values["slipway_attempts_total", "status", "served", "tutor", "new"] == 1
    assert values["slipway_attempts_total", "ok", "failover", "tutor", "old"] == 1
    assert values["slipway_failovers_total", "served", "tutor", "new"] == 1
    assert values["slipway_user_failures_total", "failover", "tutor", "old"] == 0
    assert values["slipway_tokens_total", "completion", "failover", "tutor", "old"] == 3
    assert values["slipway_answer_seconds_count", "failover", "tutor", "old"] == 1
    assert values["slipway_in_flight", "failover", "tutor", "old"] == 0
    assert values["slipway_refused_total", "model_not_found"] == 1
    assert values["slipway_table_revision",] == 1
    assert values["slipway_lease_remaining_seconds",] == 15


def test_the_time_to_the_first_content_is_that_of_streams(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    for stream in (False, False, True):
        running.ask(stream=stream)
    labels = '{role="served",route="tutor",variant="old"}'
    assert f"slipway_first_content_seconds_count{labels} 1.0" in running.metrics()
    assert f"slipway_answer_seconds_count{labels} 3.0" in running.metrics()
    assert all(record.ttft_s is not None for record in running.records())


def test_metrics_do_not_grow_with_every_candidate_there_ever_was(world: World) -> None:
    url = world.upstream().url
    running = world.gateway()
    for revision in range(1, 120):
        name = f"lora-{revision}"
        route = {"stable": name, "variants": {name: {"model": "m", "upstreams": [url]}}}
        running.admin.put_table(table_for(url, revision=revision, **route))
        running.ask()
    assert len(running.gateway.metrics.series) < 60


def test_the_client_says_what_is_wrong_when_there_is_no_gateway_or_the_token_is_another(world: World) -> None:
    nobody = GatewayClient("http://127.0.0.1:9", TOKEN)
    assert not nobody.ready()
    with pytest.raises(GatewayError, match="cannot be reached") as unreachable:
        nobody.renew(1)
    assert unreachable.value.status == 0
    stranger = GatewayClient(world.gateway().admin_url, "other")
    assert not stranger.ready()
    with pytest.raises(GatewayError, match="is this the token") as refused:
        stranger.table()
    assert refused.value.status == 401
