"""Up and down with the real gateway and a stub in vLLM's place."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from stub_project import stub_python, until

from configs.environment import Environment, VllmConfig
from configs.errors import SlipwayError
from configs.gateway import GatewayConfig
from configs.loading import load
from configs.traffic_log import TrafficLog
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.clients.processes.ports import free_ports
from tasks.serving import local as serving
from tasks.serving.target import ModelToServe

pytestmark = pytest.mark.live


class Place:
    """One environment in a temporary home, with a stub for vLLM's interpreter."""

    def __init__(self, home: Path):
        self.home = home
        self.model = home / "models" / "base"
        self.model.mkdir(parents=True)
        (self.model / "config.json").write_text("{}")
        self.python = stub_python(home)
        vllm, gateway, admin = free_ports(3)
        self.environment = Environment(
            name="test",
            vllm=VllmConfig(python=self.python, port=vllm, start_timeout_s=120),
            gateway=GatewayConfig(port=gateway, admin_port=admin),
        )
        self.folder = home / "environments" / "test"

    @property
    def target(self) -> serving.LocalProcesses:
        return serving.LocalProcesses(self.environment, self.home)

    def up(self, **changes) -> serving.Serving:
        environment = self.environment
        if changes:
            environment = environment.model_copy(update={"vllm": environment.vllm.model_copy(update=changes)})
        with serving.LocalProcesses(environment, self.home).up(ModelToServe("base", self.model), attached=True):
            return serving.addresses(environment)

    def pids(self) -> dict[str, int | None]:
        return {part.name: part.pid for part in self.target.state()}

    def health(self) -> dict[str, tuple[bool, bool]]:
        return {part.name: (part.running, part.healthy) for part in self.target.state()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Iterator[Place]:
    monkeypatch.delenv(serving.ADMIN_TOKEN, raising=False)
    place = Place(tmp_path)
    yield place
    place.target.down()


UP, DOWN = (True, True), (False, False)


def test_up_starts_both_up_again_reuses_them_and_down_ends_them(place: Place) -> None:
    where = place.up()
    assert httpx.get(f"{where.vllm_url}/health").status_code == 200
    assert place.health() == {"vllm": UP, "gateway": UP}
    before = place.pids()
    assert place.up() == where
    assert place.pids() == before
    assert place.target.down() == ("gateway", "vllm")
    assert place.health() == {"vllm": DOWN, "gateway": DOWN}
    assert place.target.down() == ()
    assert not any(psutil.pid_exists(pid) for pid in before.values() if pid)


def test_running_with_other_settings_says_which_and_changes_nothing(place: Place) -> None:
    place.up()
    before = place.pids()
    with pytest.raises(SlipwayError) as caught:
        place.up(max_lora_rank=64)
    assert "max-lora-rank: runs with '16', asked for '64'" in str(caught.value)
    assert "slipway down" in str(caught.value)
    assert place.pids() == before
    assert place.health() == {"vllm": UP, "gateway": UP}


@pytest.mark.parametrize("which", ["vllm.port", "gateway.port", "gateway.admin_port"])
def test_a_port_in_use_is_found_before_anything_is_started(place: Place, which: str) -> None:
    part, field = which.split(".")
    port = getattr(getattr(place.environment, part), field)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(SlipwayError) as caught:
            place.up()
    assert f"port {port}" in str(caught.value)
    assert f"environment.yaml: {which}" in str(caught.value)
    assert place.health() == {"vllm": DOWN, "gateway": DOWN}


def test_when_vllm_dies_at_start_its_last_lines_are_shown_and_nothing_is_left(place: Place) -> None:
    with pytest.raises(SlipwayError) as caught:
        place.up(extra_args=("--fail",))
    assert "vllm died at start (exit status 3)" in str(caught.value)
    assert "ValueError: this stub was told to fail" in str(caught.value)
    assert place.pids() == {"vllm": None, "gateway": None}


def test_a_server_whose_engine_died_is_replaced_although_it_still_has_its_port(place: Place) -> None:
    where = place.up()
    before = place.pids()
    assert httpx.post(f"{where.vllm_url}/engine_dies", json={}).status_code == 200
    assert serving.vllm_health(where.vllm_url) == "dead"
    place.up()
    assert place.health() == {"vllm": UP, "gateway": UP}
    assert place.pids()["vllm"] != before["vllm"]
    assert place.pids()["gateway"] == before["gateway"]


def test_what_died_and_cannot_be_started_either_is_still_wanted_and_the_rest_runs_on(place: Place) -> None:
    place.up()
    vllm, gateway = processes.find("vllm", place.folder), place.pids()["gateway"]
    assert vllm is not None
    os.kill(psutil.Process(vllm.pid).children()[0].pid, signal.SIGKILL)
    until(lambda: not vllm.alive())
    place.python.write_text("#!/bin/sh\nexit 5\n")
    with pytest.raises(SlipwayError, match="exit status 5"):
        place.up()
    assert place.pids() == {"vllm": None, "gateway": gateway}
    assert processes.remembered("vllm", place.folder) is not None  # forgotten means: stopped on purpose


def test_when_what_follows_fails_only_what_was_started_for_it_ends(place: Place) -> None:
    place.up()
    vllm = place.pids()["vllm"]
    processes.stop("gateway", place.folder)

    def fail_once_both_are_up() -> None:
        with place.target.up(ModelToServe("base", place.model), attached=True):
            assert place.health() == {"vllm": UP, "gateway": UP}
            raise RuntimeError("no ledger")

    with pytest.raises(RuntimeError, match="no ledger"):
        fail_once_both_are_up()
    assert place.pids() == {"vllm": vllm, "gateway": None}


def test_the_admin_token_is_random_private_kept_and_overridden_by_the_environment(place: Place, monkeypatch) -> None:
    token = serving.admin_token(place.environment, place.home)
    file = place.folder / "admin.token"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(token) >= 32
    assert serving.admin_token(place.environment, place.home) == token == file.read_text()
    monkeypatch.setenv(serving.ADMIN_TOKEN, "given" * 8)
    assert serving.admin_token(place.environment, place.home) == "given" * 8
    monkeypatch.setenv(serving.ADMIN_TOKEN, "given")
    with pytest.raises(SlipwayError, match="at least 32"):
        serving.admin_token(place.environment, place.home)


def test_the_admin_token_is_in_no_command_line_and_no_pid_file(place: Place) -> None:
    token = serving.admin_token(place.environment, place.home)
    command = serving.gateway_command(place.environment, place.home, token)
    assert command.env[serving.ADMIN_TOKEN] == token
    assert token not in " ".join(command.argv) + str(command.settings)


def test_users_requests_go_to_a_vllm_with_its_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> ProcessCommand:
        return serving.gateway_command(place.environment, place.home, "token")

    for name in (serving.VLLM_KEY, serving.UPSTREAM_KEY):
        monkeypatch.delenv(name, raising=False)
    without = command()
    assert serving.UPSTREAM_KEY not in without.env
    monkeypatch.setenv(serving.VLLM_KEY, "of-vllm")
    assert command().env[serving.UPSTREAM_KEY] == "of-vllm"
    assert command().settings != without.settings  # `slipway up` notices a gateway that runs without it
    assert "of-vllm" not in " ".join(command().argv) + str(command().settings)
    monkeypatch.setenv(serving.UPSTREAM_KEY, "of-the-gateway")
    assert command().env[serving.UPSTREAM_KEY] == "of-the-gateway"


def test_the_gateway_reads_the_environments_settings_from_a_file_and_changed_ones_are_noticed(place: Place) -> None:
    def command(**settings: object) -> tuple[GatewayConfig, dict[str, str]]:
        environment = place.environment.model_copy(update={"gateway": GatewayConfig(**settings)})
        found = serving.gateway_command(environment, place.home, "token")
        return load(Path(found.argv[found.argv.index("--config") + 1]), GatewayConfig), dict(found.settings)

    said = {"api_keys": "keys.yaml", "max_body_bytes": 20_000_000, "traffic_log": {"share": 0.5, "folder": "log"}}
    config, known = command(**said)
    assert config == GatewayConfig(
        api_keys=Path("keys.yaml").absolute(),
        max_body_bytes=20_000_000,
        table_state=place.folder.absolute() / "table.json",
        traffic_log=TrafficLog(share=0.5, folder=Path("log").absolute()),
    )
    assert command(**said) == (config, known)
    assert command(**said | {"traffic_log": {"share": 0.1}})[1] != known


def test_the_addresses_are_reachable_ones() -> None:
    environment = Environment(gateway=GatewayConfig(host="0.0.0.0", admin_host="::1"))
    where = serving.addresses(environment)
    assert (where.gateway_url, where.admin_url) == ("http://127.0.0.1:8000", "http://[::1]:8001")


def test_a_vllm_killed_in_the_middle_is_reported_and_started_again(place: Place) -> None:
    where = place.up()
    keeper = place.target.watch(ModelToServe("base", place.model), attached=True)
    assert keeper.check(0.0) == ()
    process = processes.find("vllm", place.folder)
    assert process is not None
    os.kill(psutil.Process(process.pid).children()[0].pid, signal.SIGKILL)
    until(lambda: not process.alive())
    (died,) = keeper.check(10.0)
    assert (died.name, died.kind) == ("vllm", "died")
    assert "vllm died (exit status 137)" in died.text
    assert keeper.check(10.5) == ()  # not due yet
    assert [event.kind for event in keeper.check(12.0)] == ["restarting"]
    until(lambda: serving.vllm_health(where.vllm_url) == "ok")
    assert [event.kind for event in keeper.check(20.0)] == ["back"]
    assert place.health() == {"vllm": UP, "gateway": UP}
