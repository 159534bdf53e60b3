"""The same environment as pods: vLLM's stub as an image, the real gateway's image, one real cluster for all tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

from cluster_world import RealCluster, real_cluster, tagged, users_url
from docker_images import engine, image, image_on_base
from stub_project import STUB, stub_project
from target_worlds import PLAN_FILE, TargetWorld

from tasks.serving import environment
from tasks.serving import local as serving

NAMESPACES = count(1)
KEY = "SLIPWAY_VLLM_API_KEY"


@cache
def cluster() -> RealCluster:
    """The session's."""
    with real_cluster(images=_images, has_model=False) as found:
        return found


def _images() -> dict[str, str]:
    """The stub is found where vLLM's server would be."""
    lines = "COPY stub_vllm.py /stub/vllm/entrypoints/openai/api_server.py\nENV PYTHONPATH=/stub\nUSER 10001:10001"
    stub = image_on_base("stub-vllm-pod", lines, {"stub_vllm.py": STUB.read_bytes()})
    return {"gateway": tagged(image("gateway"), "gateway"), "vllm": tagged(stub, "stub-vllm")}


class PodsWorld(TargetWorld):
    """Users ask the gateways' Service, whose address is known once `up` has applied it."""

    @property
    def users_urls(self) -> tuple[str, ...]:  # type: ignore[override]
        return (users_url(self.project, cluster()),)

    @users_urls.setter
    def users_urls(self, value: tuple[str, ...]) -> None:
        assert not value


@contextmanager
def pods_world(folder: Path) -> Iterator[TargetWorld]:
    """Two pods with vLLM's stub and two with a gateway, in a namespace of their own."""
    os.environ.setdefault(KEY, "a-key-of-the-replicas-for-tests")
    there, namespace = cluster(), f"contract-{next(NAMESPACES)}"
    there.kubectl("create", "namespace", namespace)
    settings = there.environment(namespace, base_model={"in_image": "/stub"})
    project, home = stub_project(folder, rollout=PLAN_FILE, environment=settings), folder / "home"

    def lose_adapters() -> None:
        found = there.api(namespace).list("v1", "Pod", "app.kubernetes.io/component=vllm")
        labels = [f"io.kubernetes.pod.name={found[0]['metadata']['name']}", "io.kubernetes.container.name=vllm"]
        for one in engine().containers.list(filters={"label": labels}):
            one.kill()

    try:
        yield PodsWorld(project, home, (), lose_adapters, frozenset({"vllm", "gateway", serving.SUPERVISOR}))
    finally:
        environment.stop(project, home)
        there.kubectl("delete", "namespace", namespace, "--wait=false")
