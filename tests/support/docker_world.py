"""The same environment in containers: vLLM's stub as an image, the real gateway's image, a network of its own."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from docker_images import engine, image, image_on_base
from stub_project import STUB, stub_project
from target_worlds import PLAN_FILE, TargetWorld

from configs.project import Project
from tasks.serving import environment
from tasks.serving import local as serving

REPLICAS = GATEWAYS = 2
WORLDS = count()


def docker_environment(**more: Any) -> dict[str, Any]:
    """Of this world alone. `more` is over the target's settings."""
    run = os.getpid() * 16 + next(WORLDS) % 16
    target = {
        "kind": "docker",
        "replicas": REPLICAS,
        "gateways": GATEWAYS,
        "subnet": f"10.{100 + run // 256 % 100}.{run % 256}.0/24",
        "vllm_memory_gib": 0.25,
        "gateway_memory_gib": 0.5,
        **more,
    }
    return {"name": f"t{run}", "target": target, "gateway": {"port": two_ports()}, "vllm": {"start_timeout_s": 30}}


def two_ports() -> int:
    """The first of two ports in a row that nobody has just now."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port


@cache
def stub_image() -> str:
    """vLLM's stub, started as vLLM is."""
    lines = 'COPY stub_vllm.py /\nUSER 10001:10001\nENTRYPOINT ["python3", "/stub_vllm.py"]'
    return image_on_base("stub-vllm", lines, {"stub_vllm.py": STUB.read_bytes()})


def docker_project(folder: Path, **more: Any) -> Project:
    """On stubs, with the target's settings that are named."""
    images = {"vllm_image": stub_image(), "gateway_image": image("gateway")}
    return stub_project(folder, rollout=PLAN_FILE, environment=docker_environment(**images | more))


@contextmanager
def docker_world(folder: Path) -> Iterator[TargetWorld]:
    """Two containers with vLLM's stub and two with a gateway."""
    client = engine()
    project, home = docker_project(folder), folder / "home"
    names = container_names(project)
    try:
        urls = users_urls(project)
        lost = names[1]
        started = frozenset({*names, serving.SUPERVISOR})
        yield TargetWorld(project, home, urls, lambda: client.api.kill(lost), started)
    finally:
        environment.stop(project, home)


def container_names(project: Project) -> list[str]:
    """vLLM's first."""
    name = project.environment.name
    replicas = [f"slipway-{name}-vllm-{number}" for number in range(REPLICAS)]
    return replicas + [f"slipway-{name}-gateway-{number}" for number in range(GATEWAYS)]


def users_urls(project: Project) -> tuple[str, ...]:
    """Where users reach the gateways."""
    first = project.environment.gateway.port
    return tuple(f"http://127.0.0.1:{first + number}" for number in range(GATEWAYS))
