"""`--workers N`: real processes that share a port, and are killed one by one or all at once."""

import json
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet
import pytest
import yaml
from gateway_world import CHAT, TOKEN, World, all_to_new, eventually, table_for
from stub_upstream import DONE, ROLE, Gate, chunk, frame, sends
from test_gateway_failover import free_port
from test_gateway_keys import ADA, entry, write
from test_gateway_process import Process, Start, start  # noqa: F401 - a fixture

from delivery.clients.gateway import GatewayClient, GatewayError
from delivery.gateway.__main__ import main
from delivery.gateway.workers.fleet import CONFIRMS_S

pytestmark = pytest.mark.live


def workers_of(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.popen.pid).children()


def figures(process: Process) -> dict[str, float]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    text = httpx.get(process.admin_url + "/metrics", headers=headers, timeout=60, verify=False).text
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {sample: float(value) for sample, value in pairs}


def test_two_workers_serve_a_file_alone_follow_its_edits_and_finish_their_answers_when_they_stop(
    world: World,
    start: Start,  # noqa: F811
    tmp_path: Path,
) -> None:
    gate, stub = Gate(), world.upstream()
    file, url = tmp_path / "table.yaml", stub.url
    file.write_text(yaml.safe_dump(table_for(url, lease_s=0.001, **all_to_new()).model_dump(mode="json")))
    process = start("--table", file, "--workers", "2", "--drain-s", "60", token="")
    workers = workers_of(process)
    assert len(workers) == 2
    assert {process.ask() for _ in range(8)} == {"I am new-model"}
    file.write_text(yaml.safe_dump(table_for(url, stable="former").model_dump(mode="json")))
    eventually(lambda: {process.ask() for _ in range(8)} == {"I am former-model"})
    stub.behaviours["former-model"] = sends(ROLE, frame(chunk({"content": "So "})), gate, DONE)
    with httpx.stream(
        "POST", process.url + "/v1/chat/completions", json=CHAT | {"stream": True}, timeout=60
    ) as response:
        lines = response.iter_lines()
        assert any("So" in line for line in lines)
        process.popen.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.popen.wait(0.3)
        gate.open(world.loop)
        assert "data: [DONE]" in list(lines)
    assert process.popen.wait(120) == 0
    assert not any(worker.is_running() for worker in workers)
    assert process.popen.stderr is not None
    assert {json.loads(line)["level"] for line in process.popen.stderr} == {"info"}


def test_a_port_in_use_is_named_before_any_worker_is_started(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    port = world.gateway().gateway.port
    assert main(["--port", str(port), "--admin-port", "0", "--workers", "2"], {"SLIPWAY_ADMIN_TOKEN": TOKEN}) == 2
    assert f"port {port} on 127.0.0.1 is in use" in capsys.readouterr().err


def test_workers_that_cannot_start_end_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.yaml").write_text("folder: /dev/null/traffic")
    arguments = ["--port", "0", "--admin-port", "0", "--workers", "2", "--traffic-log", str(tmp_path / "log.yaml")]
    assert main(arguments, {"SLIPWAY_ADMIN_TOKEN": TOKEN}) == 2
    assert "could not be started: it ended with status 2" in capsys.readouterr().err


# -- under load -----------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Users who ask again and again, half of them on connections that they keep."""

    url: str
    failed_at: list[float] = field(default_factory=list)  # when the requests began that got no answer
    answered: int = 0
    statuses: set[int] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(6)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        limits = httpx.Limits(max_keepalive_connections=0 if number % 2 else 1)
        with httpx.Client(base_url=self.url, verify=False, timeout=60, limits=limits, trust_env=False) as http:
            while not self._stop.is_set():
                began = time.time()
                try:
                    response = http.post("/v1/chat/completions", json=CHAT, headers={"x-slipway-user": str(number)})
                except httpx.HTTPError:
                    self.failed_at.append(began)
                else:
                    self.statuses.add(response.status_code)
                    self.answered += 1


def test_killing_workers_one_after_another_costs_the_requests_in_them_and_nothing_else(
    world: World,
    start: Start,  # noqa: F811
) -> None:
    process = start("--workers", "2")
    half = {"candidate": {"variant": "new", "share_bp": 5000}}
    process.admin.put_table(table_for(world.upstream().url, lease_s=60.0, **half))
    before, failed, seq = {}, 0, 0
    with Load(process.url) as load:
        for round_ in range(3):
            answered = load.answered
            eventually(lambda: load.answered > answered + 200, 120)  # noqa: B023
            victim = workers_of(process)[0]
            victim.kill()
            victim.wait(60)
            dead_at = time.time()
            until = time.monotonic() + 120
            while (now := figures(process))["slipway_worker_restarts_total"] <= round_ or now["slipway_workers"] < 2:
                assert time.monotonic() < until
                fallen = {name: (value, now.get(name)) for name, value in before.items() if now.get(name, 0) < value}
                assert not fallen
                before = {name: value for name, value in now.items() if name.partition("{")[0].endswith(COUNTS)}
                page = process.admin.records(seq)
                assert [record.seq for record in page.records] == list(range(seq + 1, seq + 1 + len(page.records)))
                seq = page.newest_seq or seq
                assert page.lease_remaining_s is not None
                assert page.lease_remaining_s > 0
            # of six users; whoever asks again at once may still be connected to the process that is being taken down
            assert len(load.failed_at) - failed <= 2 * 6
            assert all(began <= dead_at for began in load.failed_at)
            failed = len(load.failed_at)
    assert load.statuses == {200}
    assert len({record.variant for record in process.admin.records(0).records}) == 2
    assert process.end() == 0


COUNTS = ("_total", "_count", "_sum", "_bucket")


def test_a_worker_that_hangs_is_replaced_and_nobody_waits_for_it_to_be_told_anything(
    world: World,
    start: Start,  # noqa: F811
) -> None:
    process = start("--workers", "2")
    process.admin.put_table(table_for(world.upstream().url))
    hung = workers_of(process)[0]
    hung.suspend()
    process.admin.records(0)
    with pytest.raises(GatewayError, match="have not confirmed it yet"):
        process.admin.put_table(table_for(world.upstream().url, revision=2, stable="former"))
    assert signature(GatewayClient).parameters["timeout_s"].default > CONFIRMS_S  # it says so before nobody listens
    assert process.admin.records(0).revision == 2
    hung.wait(120)
    eventually(lambda: figures(process)["slipway_workers"] == 2, 120)
    process.admin.put_table(table_for(world.upstream().url, revision=3, stable="former"))
    assert {process.ask() for _ in range(8)} == {"I am former-model"}
    assert process.end() == 0


def test_a_fleet_that_is_killed_ends_its_workers_and_the_next_one_serves_the_last_table(
    world: World,
    start: Start,  # noqa: F811
    tmp_path: Path,
) -> None:
    arguments = ("--workers", "2", "--table-state", tmp_path / "table.json", "--port", free_port())
    table = table_for(world.upstream().url, revision=7, lease_s=60.0, **all_to_new())
    first = start(*arguments)
    first.admin.put_table(table)
    workers = workers_of(first)
    assert first.ask() == "I am new-model"
    first.end(signal.SIGKILL)
    psutil.wait_procs(workers, 120)
    assert not any(worker.is_running() for worker in workers)
    second = start(*arguments)
    assert second.admin.table() == table
    left = second.admin.records(0).lease_remaining_s
    assert left is not None
    assert 0 < left < 60
    assert second.ask() == "I am new-model"
    assert second.end() == 0


def test_budgets_and_rows_of_all_workers_outlive_the_fleet(
    world: World,
    start: Start,  # noqa: F811
    tmp_path: Path,
) -> None:
    keys = write(tmp_path / "keys.yaml", [entry(ADA, requests_per_minute=30)])
    (tmp_path / "log.yaml").write_text("share: 1.0")
    state = tmp_path / "state" / "table.json"
    arguments = ("--workers", "3", "--table-state", state, "--keys", keys, "--traffic-log", tmp_path / "log.yaml")
    arguments += ("--drain-s", "100")  # a busy disk takes its time for the last rows, and whoever takes longer is ended
    process = start(*arguments)
    process.admin.put_table(table_for(world.upstream().url))

    def ask(url: str) -> int:  # on a new connection each time
        headers = {"Authorization": f"Bearer {ADA}"}
        return httpx.post(
            url + "/v1/chat/completions", json=CHAT, headers=headers, timeout=60, verify=False
        ).status_code

    began = time.monotonic()
    statuses = [ask(process.url) for _ in range(40)]
    refilled = (time.monotonic() - began) / 2
    assert 30 <= statuses.count(200) <= 31 + refilled
    assert set(statuses) == {200, 429}
    assert process.end() == 0
    assert (tmp_path / "state" / "table.budgets.json").exists()
    files = sorted((tmp_path / "state" / "traffic").glob("*.parquet"))
    assert len(files) > 1
    assert sum(pyarrow.parquet.read_metadata(file).num_rows for file in files) == statuses.count(200)
    again = start(*arguments)
    statuses = [ask(again.url) for _ in range(40)]
    assert statuses.count(200) <= 1 + (time.monotonic() - began) / 2
    assert again.end() == 0
