"""The gateway as a process: starting, being killed, draining, and serving a file alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gateway_world import CHAT, TOKEN, World, all_to_new, eventually, table_for
from places import ROOT
from stub_upstream import DONE, ROLE, Gate, chunk, frame, says, sends
from test_gateway_failover import free_port

from configs.errors import ConfigError
from configs.routing import RoutingTable
from delivery.clients.gateway import GatewayClient
from delivery.gateway.__main__ import main
from delivery.gateway.arguments import EXAMPLE
from delivery.gateway.server import serving
from delivery.gateway.settings import Settings
from delivery.gateway.table.files import StateFile, read_table
from delivery.gateway.table.served import Tables
from delivery.gateway.table.watch import Watch

pytestmark = pytest.mark.live

Start = Callable[..., "Process"]


class Process:
    """`python -m delivery.gateway` on free ports, which it tells in its log."""

    def __init__(self, arguments: tuple[str, ...], token: str):
        command = [
            sys.executable,
            "-m",
            "delivery.gateway",
            "--port",
            "0",
            "--admin-port",
            "0",
            *arguments,
        ]
        env = os.environ | {"SLIPWAY_ADMIN_TOKEN": token}
        self.popen = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        assert self.popen.stderr is not None
        lines = map(json.loads, self.popen.stderr)
        try:
            line = next(line for line in lines if line["message"] == "the gateway serves")  # its workers talk too
        except (StopIteration, ValueError):
            self.popen.kill()
            raise
        self.url = f"http://127.0.0.1:{line['port']}"
        self.admin_url = f"http://127.0.0.1:{line['admin_port']}"
        self.admin = GatewayClient(self.admin_url, token, timeout_s=60)

    def ask(self, **more: Any) -> str:
        response = httpx.post(self.url + "/v1/chat/completions", json=CHAT | more, timeout=60)
        return str(response.json()["choices"][0]["message"]["content"])

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(how)
        return self.popen.wait(120)


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Process] = []

    def start_one(*arguments: str | Path, token: str = TOKEN) -> Process:
        started.append(Process(tuple(map(str, arguments)), token))
        return started[-1]

    yield start_one
    for process in started:
        process.popen.kill()
        process.popen.wait()
        process.admin.close()
        if process.popen.stderr:
            process.popen.stderr.close()


def test_a_killed_gateway_serves_its_last_table_again(world: World, start: Start, tmp_path: Path) -> None:
    table = table_for(world.upstream().url, revision=7, **all_to_new())
    first = start("--table-state", tmp_path / "state" / "table.json")
    first.admin.put_table(table)
    assert first.ask() == "I am new-model"
    boot = first.admin.records(0).boot_id
    first.end(signal.SIGKILL)
    second = start("--table-state", tmp_path / "state" / "table.json")
    assert second.admin.table() == table
    page = second.admin.records(0)
    assert page.boot_id != boot
    assert page.last_seq == 0
    assert page.lease_remaining_s is not None
    assert 0 < page.lease_remaining_s < 15
    assert second.ask() == "I am new-model"
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["table.json"]


def test_a_gateway_that_is_told_to_stop_finishes_what_it_has_begun(world: World, start: Start) -> None:
    gate = Gate()
    words = [frame(chunk({"content": "So "})), gate, frame(chunk({"content": "it ends"}, "stop")), frame(b"[DONE]")]
    stub = world.upstream(**{"old-model": sends(ROLE, *words)})
    process = start("--drain-s", "60")
    process.admin.put_table(table_for(stub.url))
    with httpx.stream(
        "POST", process.url + "/v1/chat/completions", json=CHAT | {"stream": True}, timeout=60
    ) as response:
        lines = response.iter_lines()
        assert any("So" in line for line in lines)
        process.popen.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.popen.wait(0.3)
        with pytest.raises(httpx.ConnectError):
            httpx.get(process.url + "/healthz")
        gate.open(world.loop)
        assert any("it ends" in line for line in lines)
    assert process.popen.wait(120) == 0


def test_a_stream_that_does_not_end_is_cut_when_the_time_for_draining_is_over(world: World, start: Start) -> None:
    stub = world.upstream(**{"old-model": sends(ROLE, frame(chunk({"content": "So "})), then="silence")})
    process = start("--drain-s", "0.1")
    process.admin.put_table(table_for(stub.url))
    with httpx.stream(
        "POST", process.url + "/v1/chat/completions", json=CHAT | {"stream": True}, timeout=60
    ) as response:
        lines = response.iter_lines()
        assert any("So" in line for line in lines)
        assert process.end(signal.SIGINT) == 0
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
    eventually(lambda: stub.abandoned == 1)


def test_a_file_is_served_alone_without_any_token_and_its_shares_need_no_lease(
    world: World, start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "table.yaml"
    file.write_text(
        yaml.safe_dump(table_for(world.upstream().url, lease_s=0.001, **all_to_new()).model_dump(mode="json"))
    )
    process = start("--table", file, token="")
    assert process.ask() == "I am new-model"
    assert process.end() == 0


README = (ROOT / "docs" / "gateway.md").read_text()
EXAMPLES = {
    "help page": EXAMPLE[EXAMPLE.index("  revision:") : EXAMPLE.index("under a controller")],
    "README": README.partition("```yaml\n")[2].partition("```")[0],
    "README on experiments": README.partition("## Experiments")[2].partition("```yaml\n")[2].partition("```")[0],
}


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_users_are_answered_from_the_example_of_the(world: World, text: str, tmp_path: Path) -> None:
    file = tmp_path / "table.yaml"
    assert text.count("http://127.0.0.1:8100") >= 2
    file.write_text(text.replace("http://127.0.0.1:8100", world.upstream().url))
    running = world.gateway_of_file(file)
    variants = read_table(file).routes["tutor"].variants
    said = {running.said(user=str(user)) for user in range(60)}
    assert len(said) > 1 or len({variant.model for variant in variants.values()}) == 1
    assert said <= {f"I am {variant.model}" for variant in variants.values()}


def test_a_served_file_is_shown_by_the_admin_api_but_not_replaced(world: World, tmp_path: Path) -> None:
    file = tmp_path / "table.yaml"
    table = table_for(world.upstream().url)
    file.write_text(table.model_dump_json())
    running = world.gateway_of_file(file)
    assert running.admin.table() == table
    response = httpx.put(
        running.admin_url + "/admin/table",
        content=table_for("http://127.0.0.1:9", revision=9).model_dump_json(),
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert response.status_code == 409
    assert "edit the file" in response.json()["error"]["message"]


def test_an_edited_file_is_served_and_a_broken_edit_is_not(tmp_path: Path) -> None:
    file, tables = tmp_path / "table.yaml", Tables(leased=False)
    watch = Watch(file, read_table, tables.replace)
    file.write_text(table_for("http://a").model_dump_json())
    watch.look()
    first = tables.table
    file.write_text("revision: 1\nroutes: {tutor: {stabel: x}}")
    with pytest.raises(ConfigError, match="stabel"):
        watch.look()
    assert tables.table is first
    watch.look()  # says it once
    file.write_text(table_for("http://bb").model_dump_json())
    watch.look()
    assert tables.routes["tutor"].variants["old"].upstreams == ("http://bb",)
    file.unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        watch.look()
    assert tables.routes


def test_the_running_gateway_notices_an_edit(world: World, tmp_path: Path) -> None:
    file = tmp_path / "table.yaml"
    url = world.upstream().url
    file.write_text(table_for(url).model_dump_json())
    running = world.gateway_of_file(file)
    assert running.said() == "I am old-model"
    file.write_text(table_for(url, stable="former").model_dump_json())
    eventually(lambda: running.said() == "I am former-model")


def test_a_kept_table_that_cannot_be_read_is_set_aside(world: World, tmp_path: Path) -> None:
    state = tmp_path / "table.json"
    state.write_text('{"table": {"revision": 3')
    running = world.gateway(table_state=state)
    assert running.admin.table() is None
    running.admin.put_table(table_for("http://a"))
    assert (tmp_path / "table.json.unreadable").read_text() == '{"table": {"revision": 3'
    assert StateFile(state).read() is not None


def test_a_table_is_served_though_it_cannot_be_kept(world: World, tmp_path: Path) -> None:
    running = world.gateway(table_state=tmp_path / "folder" / "table.json")
    (tmp_path / "folder").touch()
    response = httpx.put(
        running.admin_url + "/admin/table",
        content=table_for(world.upstream().url).model_dump_json(),
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert response.json() == {"revision": 1, "lease_remaining_s": None, "kept": False}
    assert running.said() == "I am old-model"


def test_gateways_on_one_port_replace_each_other_under_load_without_a_lost_request(
    world: World, start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "table.yaml"
    file.write_text(yaml.safe_dump(table_for(world.upstream().url).model_dump(mode="json")))
    port = free_port()
    arguments = ("--table", file, "--reuse-port", "--port", port)
    gateways, stop = [start(*arguments)], threading.Event()

    def load(worker: int) -> list[int]:
        statuses = []
        kept = httpx.Limits(max_keepalive_connections=worker % 2)  # the others connect anew for every request
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=False, timeout=60, limits=kept) as http:
            while not stop.is_set():
                statuses.append(http.post("/v1/chat/completions", json=CHAT).status_code)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, worker) for worker in range(4)]
        for _ in range(2):
            gateways.append(start(*arguments))
            assert gateways[-2].end() == 0
            before = gateways[-1].admin.records(0).last_seq
            eventually(lambda before=before: gateways[-1].admin.records(0).last_seq > before + 8)  # type: ignore[misc]
        stop.set()
        statuses = [status for result in loads for status in result.result()]
    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_a_connection_that_the_kernel_made_before_the_gateway_stopped_listening_is_answered(world: World) -> None:
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
    upstream = world.upstream()

    async def scenario() -> bytes:
        async with serving(Settings(port=0, drain_s=5)) as gateway:
            gateway.tables.replace(table_for(upstream.url))
            late = socket.create_connection(
                ("127.0.0.1", gateway.port), timeout=60
            )  # the loop has no turn to accept it
            late.sendall(head.encode() + body)
        with late:
            return late.recv(65536)

    assert world.do(scenario()).startswith(b"HTTP/1.1 200 OK")


def test_a_gateway_that_stops_asks_its_clients_to_close_their_connections(world: World, start: Start) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ROLE, frame(chunk({"content": "So "})), gate, DONE)})
    process = start("--drain-s", "60")
    process.admin.put_table(table_for(stub.url))
    with httpx.Client(base_url=process.url, verify=False) as kept, httpx.Client(base_url=process.url) as other:
        assert "connection" not in kept.get("/readyz").headers
        with other.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as stream:
            lines = stream.iter_lines()
            assert any("So" in line for line in lines)
            process.popen.send_signal(signal.SIGTERM)
            eventually(lambda: kept.get("/readyz").status_code == 503)
            stub.behaviours["old-model"] = says("the last one")
            last = kept.post("/v1/chat/completions", json=CHAT)
            assert (last.status_code, last.headers["connection"]) == (200, "close")
            gate.open(world.loop)
            list(lines)
    assert process.popen.wait(120) == 0


def test_a_port_in_use_is_named_with_the_flag_that_changes_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    running = world.gateway()
    arguments = ["--port", str(running.gateway.port), "--admin-port", "0"]
    assert main(arguments, {"SLIPWAY_ADMIN_TOKEN": TOKEN}) == 2
    said = capsys.readouterr().err
    assert f"port {running.gateway.port} on 127.0.0.1 is in use" in said
    assert "--port" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "a", "--table-state", "b"], "exclude each other"),
        (["--table", "/not/there.yaml"], "the file does not exist"),
        (["--table-state", "/dev/null/table.json"], "the kept table cannot be read"),
        (["--host", "256.1.1.1", "--port", "0", "--admin-port", "0"], "cannot listen on 256.1.1.1"),
    ],
)
def test_a_start_that_cannot_work_says_why(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, {"SLIPWAY_ADMIN_TOKEN": TOKEN}) == 2
    assert said in capsys.readouterr().err


def test_without_a_token_and_without_a_file_it_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {"SLIPWAY_ADMIN_TOKEN": " "}) == 2
    assert "SLIPWAY_ADMIN_TOKEN" in capsys.readouterr().err


def test_all_flags_out_of_range_are_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--port", "70000", "--drain-s", "-1", "--mirror-queue", "0", "--idle-timeout-s", "inf"]
    assert main(arguments, {"SLIPWAY_ADMIN_TOKEN": TOKEN}) == 2
    said = capsys.readouterr().err
    for words in ("--port: Input should be less than or equal to 65535, found '70000'", "--drain-s", "--mirror-queue"):
        assert words in said
    assert "--idle-timeout-s: Input should be a finite number" in said


def test_no_request_is_lost_while_the_table_changes_fifty_times_under_load(world: World) -> None:
    url = world.upstream().url
    running = world.gateway(table_for(url))
    stop = threading.Event()

    def load(worker: int) -> set[int]:
        statuses = set()
        with httpx.Client(base_url=running.url, verify=False) as http:
            while not stop.is_set():
                headers = {"x-slipway-user": str(worker)}
                statuses.add(http.post("/v1/chat/completions", json=CHAT, headers=headers).status_code)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, worker) for worker in range(4)]
        for revision in range(2, 52):
            share = {"variant": "new", "share_bp": revision * 190}
            running.admin.put_table(table_for(url, revision=revision, candidate=share))
        stop.set()
        assert {status for result in loads for status in result.result()} == {200}
    assert {type(running.admin.table())} == {RoutingTable}
