"""Alert rules and dashboard speak of figures that the gateway really shows, and Prometheus understands them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml
from gateway_world import TOKEN, World, all_to_new, eventually, table_for
from prometheus_client.parser import text_string_to_metric_families
from stub_upstream import refuses
from test_gateway_failover import free_port

import delivery.gateway
from configs.traffic_log import TrafficLog
from delivery.gateway.workers.figures import FleetFigures
from delivery.gateway.workers.fleet import Fleet

pytestmark = pytest.mark.live

FOLDER = Path(delivery.gateway.__file__).with_name("monitoring")
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
EXPRESSIONS = [rule["expr"] for group in RULES for rule in group["rules"]]
EXPRESSIONS += [
    target["expr"]
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    for target in panel["targets"]
]
needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="Debian's package `prometheus` is not installed",
)


def names_in(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in re.findall(r"\bslipway_\w+", expression)}


def test_every_figure_of_the_rules_and_the_dashboard_is_one_that_the_gateway_shows(
    world: World, tmp_path: Path
) -> None:
    contract = {"detectors": {"short": {"kind": "form", "max_words": 1}}}
    stub = world.upstream(**{"new-model": refuses(500)})
    table = table_for(stub.url, contract=contract, **all_to_new())
    running = world.gateway(table, traffic_log=TrafficLog(folder=tmp_path))
    for user in range(8):
        running.ask(user=str(user))
    running.ask(model="nobody")
    shown = set()
    of_fleet = FleetFigures(Fleet(2, 10)).render().decode()
    for family in text_string_to_metric_families(running.metrics() + of_fleet):
        shown |= {family.name, *(sample.name for sample in family.samples)}
    shown.add("slipway_mirror_dropped_total")  # there from the first copy that is dropped
    shown.add("slipway_contract_unjudged_total")  # there from the first answer that takes a detector too long
    assert names_in(EXPRESSIONS) - shown == set()


def test_every_recorded_figure_that_is_used_is_recorded() -> None:
    recorded = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}
    used = {name for text in EXPRESSIONS for name in re.findall(r"slipway:[\w:]+", text)}
    assert used <= recorded


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert {rule["alert"] for group in RULES for rule in group["rules"] if "alert" in rule} == fired


def test_what_alarms_at_its_first_count_is_shown_before_it(world: World) -> None:
    shown = world.gateway(table_for(world.upstream().url)).metrics()
    assert 'slipway_refused_total{code="internal_error"} 0.0' in shown
    assert 'slipway_refused_total{code="overloaded"} 0.0' in shown


def test_every_alert_says_what_to_do() -> None:
    alerts = [rule for group in RULES for rule in group["rules"] if "alert" in rule]
    assert alerts
    assert all(set(alert["annotations"]) == {"summary", "action"} for alert in alerts)


@needs_prometheus
@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]])
def test_prometheus_finds_no_fault_with_the_rules(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_a_real_prometheus_reads_the_running_gateway_and_sees_what_is_wrong(world: World, tmp_path: Path) -> None:
    stub = world.upstream(**{"new-model": refuses(500)})
    running = world.gateway(table_for(stub.url, trip={"failures": 2, "users": 2}, **all_to_new()))
    for user in range(5):
        assert running.ask(user=str(user)).status_code == 200
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms", "scrape_timeout": "200ms"}
    config["rule_files"] = [str(FOLDER / "alerts.yaml")]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [running.admin_url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "admin.token").write_text(TOKEN)
    port = free_port()
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}/api/v1"

        def asked(expression: str) -> list[float]:
            try:
                found = httpx.get(f"{base}/query", params={"query": expression})
            except httpx.TransportError:
                return []
            if found.status_code != 200:  # it starts
                return []
            return [float(sample["value"][1]) for sample in found.json()["data"]["result"]]

        eventually(lambda: asked('up{job="slipway-gateway"}') == [1.0], 120)
        eventually(lambda: asked('sum(slipway_attempts_total{outcome="ok",role="failover"})') == [5.0], 120)
        eventually(lambda: asked('ALERTS{alertname="SlipwayVariantTripped"}') == [1.0], 120)
        assert asked('ALERTS{alertname="SlipwayUsersFail"}') == []
    finally:
        process.terminate()
        process.wait(120)
