"""What containers are made of, without an engine."""

import os
from pathlib import Path

import pytest

from configs.docker import DockerTarget
from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.clients.docker.container import ContainerSpec
from tasks.serving.docker.folders import make_writable, require_readable, user_inside
from tasks.serving.docker.specs import Plan
from tasks.serving.target import ModelToServe

DIGEST = "sha256:" + 64 * "a"
TOKEN = "a-token-for-tests-of-32-characters-and-more"


def specs(home: Path, target: dict[str, object], **said: object) -> dict[str, ContainerSpec]:
    images = {"kind": "docker", "vllm_image": "vllm:1", "gateway_image": "gateway:1", "subnet": "10.9.8.0/24"}
    environment = Environment.model_validate({"name": "live", "target": images | target, **said})
    assert isinstance(environment.target, DockerTarget)
    plan = Plan(environment, environment.target, home, "10001:10001", TOKEN, lambda name: f"{DIGEST}:{name}", lambda: 6)
    return {part.name: part.spec() for part in plan.parts(ModelToServe("base", home / "model", 512))}


def test_each_container_has_its_address_its_image_by_id_and_what_it_may_see(tmp_path: Path) -> None:
    found = specs(tmp_path, {"replicas": 2, "gateways": 2})
    assert [(name, spec.address) for name, spec in found.items()] == [
        ("slipway-live-vllm-0", "10.9.8.10"),
        ("slipway-live-vllm-1", "10.9.8.11"),
        ("slipway-live-gateway-0", "10.9.8.100"),
        ("slipway-live-gateway-1", "10.9.8.101"),
    ]
    assert found["slipway-live-vllm-1"].image == f"{DIGEST}:vllm:1"
    mounts = {mount.target: (mount.source, mount.read_only) for mount in found["slipway-live-vllm-0"].mounts}
    home = str(tmp_path)
    assert mounts == {"/models/base": (f"{home}/model", True), "/adapters": (f"{home}/adapters", True)}
    assert found["slipway-live-vllm-0"].published == {}
    ports = [found[f"slipway-live-gateway-{number}"].published for number in (0, 1)]
    assert ports == [{8000: ("127.0.0.1", 8000)}, {8000: ("127.0.0.1", 8001)}]
    states = {m.source for s in found.values() for m in s.mounts if not m.read_only}
    assert states == {f"{home}/environments/live/containers/gateway-{number}" for number in (0, 1)}


def test_gpus_are_given_out_one_after_the_other_and_the_cpu_build_is_tuned(tmp_path: Path) -> None:
    (cpu, *_) = specs(tmp_path, {}).values()
    assert (cpu.environment["OMP_NUM_THREADS"], cpu.environment["VLLM_PLUGINS"]) == ("6", "slipway_cpu_lora")
    assert "--kv-cache-memory-bytes" in cpu.command
    first, second, *_ = specs(tmp_path, {"replicas": 2, "gpus_per_replica": 2}).values()
    assert (first.gpus, second.gpus) == (("0", "1"), ("2", "3"))
    assert second.command[-2:] == ("--tensor-parallel-size", "2")
    assert "--gpu-memory-utilization" in first.command
    assert "OMP_NUM_THREADS" not in first.environment


def test_secrets_are_told_to_the_container_and_never_to_a_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_VLLM_API_KEY", "a-secret-key")
    found = specs(tmp_path, {})
    vllm, gateway = found["slipway-live-vllm-0"], found["slipway-live-gateway-0"]
    assert vllm.environment["VLLM_API_KEY"] == gateway.environment["SLIPWAY_UPSTREAM_API_KEY"] == "a-secret-key"
    assert gateway.environment["SLIPWAY_ADMIN_TOKEN"] == TOKEN
    for spec in found.values():
        assert "a-secret-key" not in f"{spec.settings} {spec.command} {spec!r}"
        assert TOKEN not in f"{spec.settings} {spec.command} {spec!r}"


def test_users_of_an_open_gateway_are_told_apart_as_they_are_outside(tmp_path: Path) -> None:
    keys = tmp_path / "keys" / "keys.yaml"
    for host, trusts in (("127.0.0.1", "true"), ("0.0.0.0", "false")):
        settings = {"host": host, "api_keys": str(keys), "traffic_log": {"folder": str(tmp_path / "log")}}
        gateway = specs(tmp_path, {}, gateway=settings)["slipway-live-gateway-0"]
        file = tmp_path / "environments/live/containers" / gateway.command[1].lstrip("/")
        text = file.read_text()
        assert f"trust_user_names: {trusts}" in text
        assert "api_keys: /keys/keys.yaml" in text
        assert "folder: /traffic" in text
        assert {"/keys", "/traffic"} <= {mount.target for mount in gateway.mounts}


def test_nobody_is_root_inside() -> None:
    assert user_inside("7:8") == "7:8"
    assert not user_inside(None).startswith("0:")


def test_what_the_user_inside_could_not_read_or_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x")
    (tmp_path / "weights").chmod(0o600)
    stranger = f"{os.getuid() + 12_345}:{os.getgid() + 12_345}"
    tmp_path.chmod(0o755)
    with pytest.raises(SlipwayError, match="cannot read") as refused:
        require_readable(tmp_path, stranger)
    assert [problem.where for problem in refused.value.problems] == [str(tmp_path / "weights")]
    assert "chmod -R a+rX" in refused.value.cure
    (tmp_path / "weights").chmod(0o644)
    require_readable(tmp_path, stranger)
    with pytest.raises(SlipwayError, match="cannot write to"):
        make_writable(tmp_path, stranger)
    make_writable(tmp_path / "new", f"{os.getuid()}:{os.getgid()}")
