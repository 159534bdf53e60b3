"""images/compose.yaml as docs/docker.md uses it: Compose starts what Slipway then finds as an external target."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from compose import compose
from docker_images import engine, image
from docker_world import stub_image, two_ports
from places import ROOT
from release_child import TOKEN
from stub_project import stub_project, until
from target_worlds import PLAN_FILE, TargetWorld

from configs.errors import require_all
from delivery.progress import silent
from tasks.preflight import before_up
from tasks.serving import environment

pytestmark = pytest.mark.live

FILE = ROOT / "images" / "compose.yaml"
Compose = Callable[..., str]
WANTED = {"SLIPWAY_MODEL_NAME": "base", "SLIPWAY_MODEL": "/srv/base", "SLIPWAY_ADAPTERS": "/srv/adapters"}


def test_compose_reads_the_file_and_asks_for_what_it_needs() -> None:
    def config(**env: str) -> "subprocess.CompletedProcess[str]":
        command = [*compose(), "-f", str(FILE), "config"]
        return subprocess.run(command, env=os.environ | env, capture_output=True, text=True)

    whole = config(**WANTED, SLIPWAY_ADMIN_TOKEN=TOKEN)
    assert whole.returncode == 0, whole.stderr
    for service in yaml.safe_load(whole.stdout)["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert not service["image"].endswith(":latest")
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "set it to the name in model.yaml" in config(SLIPWAY_ADMIN_TOKEN=TOKEN).stderr
    assert "at least 32 characters" in config(**WANTED).stderr


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Compose]:
    """Compose on a model of no weights, a stub in vLLM's place; all of it goes afterwards."""
    engine()
    env = os.environ | {
        "SLIPWAY_VLLM_IMAGE": stub_image(),
        "SLIPWAY_GATEWAY_IMAGE": image("gateway"),
        "SLIPWAY_MODEL_NAME": "base",
        "SLIPWAY_MODEL": str(tmp_path / "model"),
        "SLIPWAY_ADAPTERS": str(tmp_path / "home" / "adapters"),
        "SLIPWAY_ADMIN_TOKEN": TOKEN,
        "SLIPWAY_PORT": str(two_ports()),
        "COMPOSE_PROJECT_NAME": f"slipway-compose-{os.getpid()}",
    }

    def call(*words: str) -> str:
        command = [*compose(), "-f", str(FILE), *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call.port = env["SLIPWAY_PORT"]  # type: ignore[attr-defined]
    yield call
    call("down", "--volumes")


@pytest.mark.timeout(300)
def test_slipway_releases_to_what_compose_runs(run: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    target = {
        "kind": "external",
        "replicas": ["http://172.31.241.10:8000"],
        "gateways": ["http://172.31.241.100:8001"],
        "adapters_on_replicas": "/adapters",
    }
    project, home = stub_project(tmp_path, rollout=PLAN_FILE, environment={"target": target}), tmp_path / "home"
    (home / "adapters").mkdir(parents=True)
    run("up", "-d")
    url = f"http://127.0.0.1:{run.port}"  # type: ignore[attr-defined]
    until(lambda: _answers(f"{url}/healthz") and _answers(f"{target['replicas'][0]}/health"), 60)
    require_all("it cannot start", before_up(project, home))
    world = TargetWorld(project, home, (url,), lambda: None)
    try:
        environment.start(project, home, silent, attached=True)
        with world.users():
            assert world.release(world.built(), silent).outcome == "live"
        assert world.failed == []
    finally:
        environment.stop(project, home)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
