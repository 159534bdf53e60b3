"""What would fail later is said first, all of it at once, and nothing has been done by then."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from release_fakes import World, lora_bundle, site_of
from stub_project import stub_project

from configs.dataset import Source
from configs.environment import VllmConfig
from configs.errors import SlipwayError, require_all
from configs.evals import Capability
from configs.gateway import GatewayConfig
from configs.project import Project, load_project
from delivery.clients.processes.ports import free_ports
from delivery.release.decide import new_state
from tasks.preflight import before_build, before_release, before_up, load_for, require_disk_room
from tasks.release.site import open_ledger, served_as
from tasks.release.start import bootstrap
from tasks.serving.environment import start

STUB = Path(__file__).parents[1] / "support" / "stub_vllm.py"
PORTS = ("vllm.port", "gateway.port", "gateway.admin_port")


@pytest.fixture
def taken() -> Iterator[Callable[[], int]]:
    """Gives ports that somebody listens on."""
    with ExitStack() as stack:

        def one() -> int:
            holder = stack.enter_context(socket.socket())
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            return int(holder.getsockname()[1])

        yield one


@pytest.fixture
def busy(taken: Callable[[], int]) -> Project:
    """Of the shipped project: no port is free, and vLLM is not installed."""
    tutor = load_project(Path("configs/tutor"))
    environment = tutor.environment.model_copy(
        update={
            "vllm": VllmConfig(port=taken(), python=Path("nowhere/bin/python")),
            "gateway": GatewayConfig(port=taken(), admin_port=taken(), api_keys=Path("nowhere/keys.yaml")),
        }
    )
    return replace(tutor, environment=environment)


def said_by(checks: Iterator[Callable[[], object]]) -> str:
    with pytest.raises(SlipwayError) as caught:
        require_all("not now", checks)
    return caught.value.render()


def test_up_names_every_port_the_interpreter_and_the_keys_before_it_prepares_the_model(
    busy: Project, tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(SlipwayError) as caught:
        start(busy, tmp_path, lambda done, total, text: said.append(text))
    text = caught.value.render()
    for part in (*PORTS, "nowhere/bin/python", "make setup", "nowhere/keys.yaml", "5 problem(s)"):
        assert part in text, text
    assert said == []
    assert not (tmp_path / "models").exists()


def test_a_build_names_missing_data_variables_suites_and_the_taken_port_at_once(
    busy: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPWAY_DATA", raising=False)
    sources = tuple(Source(path=Path(path), reader="messages") for path in ("${SLIPWAY_DATA}/a.jsonl", "b.jsonl"))
    evals = busy.evals.model_copy(
        update={"behaviour": ("asks-guiding-question", "asks-nicely"), "capability": (Capability(task="slipway_piqa"),)}
    )
    project = replace(busy, dataset=busy.dataset.model_copy(update={"sources": sources}), evals=evals)
    text = said_by(before_build(project, tmp_path))
    for part in ("SLIPWAY_DATA is not set", "b.jsonl does not exist", "asks-nicely", "vllm.port", "make setup"):
        assert part in text, text
    assert "gateway.port" not in text  # a build needs no gateway


def test_wrong_settings_and_wrong_suites_are_told_in_one_round(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    tutor = Path("configs/tutor").absolute()
    (folder / "project.yaml").write_text(f"extends: {tutor}\n")
    (folder / "training.yaml").write_text("epoch: 2\n")
    (folder / "model.yaml").write_text("name: own\npath: nowhere\n")
    (folder / "dataset.yaml").write_text(
        "name: own\nsources: [{path: b.jsonl}]\nsplit: {holdout_share: 0.1}\nfilters: {max_row_tokens: 64}\n"
    )
    (folder / "evals.yaml").write_text("behaviour: [asks-nicely]\ngates: [{suite: asks-nicely, min_score: 0.5}]\n")
    begun: list[Project] = []

    def checks(project: Project) -> list[Callable[[], object]]:
        begun.append(project)
        return []

    with pytest.raises(SlipwayError) as caught:
        load_for(folder, tmp_path, "the build cannot start", checks)
    text = caught.value.render()
    for part in ("did you mean 'epochs'?", "asks-nicely", "b.jsonl does not exist", "nowhere"):
        assert part in text, text
    assert begun == []
    (folder / "training.yaml").unlink()
    assert load_for(folder, tmp_path, "the build cannot start", checks).model.name == "own"
    assert len(begun) == 1


def test_the_shipped_project_passes_where_its_ports_are_free(tmp_path: Path) -> None:
    tutor = load_project(Path("configs/tutor"))
    free = VllmConfig(port=free_ports(1)[0], python=Path("/bin/true"))
    project = replace(tutor, environment=tutor.environment.model_copy(update={"vllm": free}))
    require_all("not now", before_build(project, tmp_path))


def test_a_build_on_a_vllm_that_runs_elsewhere_needs_none_here_but_the_right_model(
    busy: Project, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    argv = [sys.executable, str(STUB), "--port", str(port), "--served-model-name", "base", "--model", "/models/base"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as vllm:
        try:
            assert vllm.stdout is not None
            assert "Starting" in vllm.stdout.readline()
            there = busy.environment.vllm.model_copy(update={"port": port})
            project = replace(busy, environment=busy.environment.model_copy(update={"vllm": there}))
            assert "does not serve smollm2-135m; it serves base" in said_by(before_build(project, tmp_path))
            ours = replace(project, model=project.model.model_copy(update={"name": "base"}))
            require_all("not now", before_build(ours, tmp_path))
        finally:
            vllm.kill()


def test_a_release_into_an_environment_that_is_down_names_gateway_and_vllm(busy: Project, tmp_path: Path) -> None:
    vllm, gateway, admin = free_ports(3)
    down = GatewayConfig(port=gateway, admin_port=admin)
    environment = busy.environment.model_copy(update={"gateway": down, "vllm": VllmConfig(port=vllm)})
    project = replace(busy, environment=environment)
    text = said_by(before_release(project, tmp_path, ["http://127.0.0.1:9"]))
    assert f":{down.admin_port}" in text
    assert f":{environment.vllm.port}" in text
    assert "http://127.0.0.1:9" in text
    assert text.count("slipway status") >= 2


def test_a_release_says_that_its_plan_is_blind_and_its_judges_key_missing_before_it_or_a_build_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    judged = load_project(Path("configs/tutor-judged"))
    vllm, gateway, admin = free_ports(3)
    down = {"vllm": VllmConfig(port=vllm), "gateway": GatewayConfig(port=gateway, admin_port=admin)}
    judge = judged.rollout.judge
    assert judge is not None
    plan = {"requests_per_s": 0.0001, "judge": judge.model_copy(update={"api_key_env": "JUDGE_KEY"})}
    project = replace(
        judged,
        rollout=judged.rollout.model_copy(update=plan),
        environment=judged.environment.model_copy(update=down),
    )
    text = said_by(before_release(project, tmp_path))
    for part in ("can detect nothing in 0-shadow", "environment variable JUDGE_KEY", f":{admin}", "slipway up"):
        assert part in text, text
    monkeypatch.setenv("JUDGE_KEY", "k")
    text = said_by(before_release(project, tmp_path, accept_blind_plan=True))
    assert "detect" not in text
    assert "JUDGE_KEY" not in text


def test_addresses_of_ipv6_are_asked_like_any_other(busy: Project, tmp_path: Path) -> None:
    vllm, admin = free_ports(2)
    parts = {"vllm": VllmConfig(host="::1", port=vllm), "gateway": GatewayConfig(admin_host="::1", admin_port=admin)}
    project = replace(busy, environment=busy.environment.model_copy(update=parts))
    text = said_by(before_release(project, tmp_path))
    assert f"http://[::1]:{admin}" in text
    assert f"http://[::1]:{vllm}" in text


def test_a_release_that_is_under_way_needs_its_controller_whatever_is_down(busy: Project, tmp_path: Path) -> None:
    ledger = open_ledger(busy.environment, tmp_path)
    site = site_of(World(tmp_path / "world"), tmp_path, ledger)
    bundle = lora_bundle(tmp_path)
    base = bootstrap(site, "tutor", bundle)
    served = served_as(bundle, site)
    state = new_state("r1", "local", "tutor", served, served, 0.0, {})
    ledger.acquire("local", "me", 30, 0)
    ledger.begin(state, busy.rollout, bundle, "me", 30, 0, "ann")
    assert base.routes
    require_all("not now", before_release(busy, tmp_path))
    ledger.close()


def test_what_has_served_comes_back_on_a_disk_that_is_nearly_full(tiny_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", tiny_disk], check=True)
    project = stub_project(tmp_path)  # its model lies elsewhere: nothing is to be prepared
    require_all("not now", before_up(project, tiny_disk))
    assert "500 MB are needed" in said_by(before_build(project, tiny_disk))
    embedded = replace(project, model=load_project(Path("configs/tutor")).model)
    assert "500 MB are needed" in said_by(before_up(embedded, tiny_disk))
    file = tiny_disk / "filler"
    file.write_bytes(bytes(17_000_000))
    assert "5 MB are needed" in said_by(before_up(project, tiny_disk))


def test_a_disk_that_is_all_but_full_and_a_file_in_the_folders_place_are_said(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a tiny disk")
    try:
        with pytest.raises(SlipwayError, match="0 MB left, 500 MB are needed") as caught:
            require_disk_room(disk / "state")
        assert "make room" in caught.value.cure
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(SlipwayError, match="cannot be written"):
            require_disk_room(disk / "state")
    finally:
        subprocess.run(["umount", disk], check=True)
    (tmp_path / "file").touch()
    with pytest.raises(SlipwayError, match="is a file"):
        require_disk_room(tmp_path / "file")
