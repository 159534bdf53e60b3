"""An experiment at the running gateway: fixed arms, testers beside it, and its report on the command line."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from gateway_world import TOKEN, World, table_for
from stub_upstream import refuses
from test_gateway_keys import ADA, BOB, ask, entry, write
from typer.testing import CliRunner

from configs.errors import SlipwayError
from configs.traffic_log import TrafficLog
from delivery.clients.traffic_log import read_traffic
from flows.cli.main import app
from tasks.release.experiment import experiment_report

TONE: dict[str, Any] = {"experiment": {"name": "tone", "arms": {"new": 3000, "former": 3000}}}


def test_every_user_keeps_his_arm_and_the_report_knows_all_of_them(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **TONE))
    first = {user: running.said(user=user) for user in map(str, range(40))}
    assert {user: running.said(user=user, stream=True).strip() for user in first} == first
    counted = Counter(said.removeprefix("I am ").removesuffix("-model") for said in first.values())
    found = experiment_report(running.admin_url, TOKEN, "tutor")
    assert {arm.variant: arm.users for arm in found.arms} == counted
    assert sum(arm.requests for arm in found.arms) == 80
    assert found.arms[0].variant == "old"


def test_an_arm_that_fails_costs_its_users_nothing(world: World) -> None:
    running = world.gateway(table_for(world.upstream(**{"new-model": refuses(500)}).url, **TONE))
    said = {running.said(user=str(user)) for user in range(30)}
    assert said == {"I am old-model", "I am former-model"}
    assert {r.ok for r in running.records() if (r.variant, r.role) == ("new", "served")} == {False}


def test_without_its_lease_an_experiment_pauses(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, **TONE))
    assert running.admin.records(0).lease_remaining_s == 15.0
    running.clock.now += 16
    assert {running.said(user=str(user)) for user in range(30)} == {"I am old-model"}


@pytest.mark.parametrize("named", ["header", "field"])
def test_a_tester_gets_the_variant_that_the_table_names_for_him(world: World, named: str) -> None:
    running = world.gateway(table_for(world.upstream().url, testers={"ada": "former", "bob": "old"}, **TONE))
    ask = (lambda user: running.said(user=user)) if named == "header" else (lambda user: running.said(**{"user": user}))
    assert {ask("ada") for _ in range(3)} == {"I am former-model"}
    assert ask("bob") == "I am old-model"
    assert {record.role for record in running.records() if record.variant == "former"} == {"tester"}


def test_where_keys_are_required_a_tester_is_one_clients_user(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = world.gateway(api_keys=write(tmp_path / "keys.yaml", [entry(ADA, "school"), entry(BOB, "shop")]))
    testers = {"school/eve": "former", "eve": "new", "schol/dan": "new"}
    running.admin.put_table(table_for(world.upstream().url, testers=testers))

    def variant(key: str, user: str) -> str:
        return ask(running, key, headers={"x-slipway-user": user}).headers["x-slipway-variant"]

    assert variant(ADA, "eve") == "former"
    assert {variant(BOB, user) for user in ("eve", "school/eve", "chool/eve")} == {"old"}
    assert variant(ADA, "school/eve") == "old"
    (said,) = [record for record in caplog.records if "testers" in record.message]
    assert vars(said)["testers"] == ["eve", "schol/dan"]


def test_without_its_lease_a_table_has_no_testers(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url, testers={"ada": "new"}))
    assert running.admin.records(0).lease_remaining_s == 15.0
    running.clock.now += 16
    assert running.said(user="ada") == "I am old-model"
    assert [record.role for record in running.records()] == ["served"]


def test_a_tester_whose_variant_fails_is_answered_by_stable(world: World) -> None:
    running = world.gateway(table_for(world.upstream(**{"new-model": refuses(500)}).url, testers={"ada": "new"}))
    assert running.said(user="ada") == "I am old-model"
    assert [(r.variant, r.role) for r in running.records()] == [("new", "tester"), ("old", "failover")]


def test_the_command_shows_the_report_and_says_which_routes_have_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = world.gateway(table_for(world.upstream().url, **TONE))
    for user in range(20):
        running.ask(user=str(user))
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    arguments = ["experiment", "--admin", running.admin_url, "--route", "tutor"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "experiment tone on route tutor, 95% intervals for one look" in shown.output
    assert "difference" in shown.output
    as_json = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert {arm["variant"] for arm in as_json["arms"]} == {"old", "new", "former"}
    missing = CliRunner().invoke(app, ["experiment", "--admin", running.admin_url, "--route", "other"])
    assert "routes with one: tutor" in str(missing.exception)


def test_the_report_from_the_traffic_log_is_the_one_from_the_gateways_memory(world: World, tmp_path: Path) -> None:
    contract = {"detectors": {"short": {"kind": "form", "max_words": 2}}}
    table = table_for(world.upstream().url, contract=contract, testers={"1": "new"}, **TONE)
    running = world.gateway(table, traffic_log=TrafficLog(folder=tmp_path))
    asked = [running.ask(user=str(user)).headers["x-request-id"] for user in range(20)]
    for request_id in asked[:5]:
        running.http.post("/v1/feedback", json={"request_id": request_id, "rating": -1})
    remembered = experiment_report(running.admin_url, TOKEN, "tutor")
    world.do(world.stack.aclose())
    later = world.gateway(table)
    assert experiment_report(later.admin_url, TOKEN, "tutor").arms != remembered.arms
    assert experiment_report(later.admin_url, TOKEN, "tutor", log=tmp_path).arms == remembered.arms
    logged = read_traffic(tmp_path, candidate="new", stable="old").traffic.records
    assert "tester" in {record.role for record in logged}
    with pytest.raises(SlipwayError, match=r"no \*\.parquet"):
        experiment_report(later.admin_url, TOKEN, "tutor", log=tmp_path / "elsewhere")
