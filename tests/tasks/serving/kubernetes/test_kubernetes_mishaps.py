"""What goes wrong with a real cluster's pods and node: READY of TOTAL says why, it mends, and users notice nothing."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from docker_images import engine
from node_loss import lost_soon
from pods_world import cluster, pods_world
from release_child import TOKEN
from stub_project import until
from target_worlds import TargetWorld

from configs.kubernetes import KubernetesTarget
from delivery.clients.vllm import VllmError
from delivery.progress import silent
from tasks.release.rollback import rollback
from tasks.release.site import open_site_of
from tasks.serving import environment
from tasks.serving.target import readiness

pytestmark = pytest.mark.live

WHOLE = "vllm 2 of 2 ready, gateway 2 of 2 ready"
PATIENCE_S = 150
PULLS = {"imagePullPolicy": "IfNotPresent", "image": "127.0.0.1:9/vllm@sha256:" + "0" * 64}  # nobody listens there


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetWorld]:
    """Two pods with vLLM's stub, two with a gateway, and their supervisor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
        with pods_world(tmp_path_factory.mktemp("mishaps")) as found:
            environment.start(found.project, found.home, silent, attached=True)
            yield found


def namespace(world: TargetWorld) -> str:
    target = world.project.environment.target
    assert isinstance(target, KubernetesTarget)
    return target.namespace


def kubectl(world: TargetWorld, *words: str) -> str:
    return cluster().kubectl("-n", namespace(world), *words)


def pods(world: TargetWorld, component: str) -> list[str]:
    """Names of those that stay."""
    found = cluster().api(namespace(world)).list("v1", "Pod", f"app.kubernetes.io/component={component}")
    return sorted(p["metadata"]["name"] for p in found if not p["metadata"].get("deletionTimestamp"))


def said(world: TargetWorld) -> str:
    return readiness(world.target.state())


def until_said(world: TargetWorld, beginning: str, *words: str) -> str:
    """What is said of the pods, once it begins so and has these words."""
    found: list[str] = []

    def is_said() -> bool:
        found.append(said(world))
        return found[-1].startswith(beginning) and all(word in found[-1] for word in words)

    try:
        until(is_said, PATIENCE_S)
    except AssertionError:
        pytest.fail(f"{words} was never said, but at last: {found[-1]}")
    return found[-1]


def serves(world: TargetWorld, model: str = "base") -> bool:
    """Every pod is ready, and has this model."""
    try:
        return said(world) == WHOLE and all(model in models for models in world.models())
    except VllmError:
        return False  # one has ended, and the cluster does not know it yet


def evicted(world: TargetWorld, pod: str, folder: Path) -> bool:
    """As a drained node asks for it; False while the budget does not allow it."""
    body = {"apiVersion": "policy/v1beta1", "kind": "Eviction"}
    body |= {"metadata": {"name": pod, "namespace": namespace(world)}}
    (folder / "eviction.json").write_text(json.dumps(body))
    path = f"/api/v1/namespaces/{namespace(world)}/pods/{pod}/eviction"
    answer = cluster().kubectl("create", "--raw", path, "-f", str(folder / "eviction.json"), check=False)
    return '"status":"Success"' in answer


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # a kubelet ends an agent that hangs
            os.kill(pid, signal.SIGCONT)


def container(pod: str, name: str) -> Any:
    """As the node's engine knows it."""
    labels = [f"io.kubernetes.pod.name={pod}", f"io.kubernetes.container.name={name}"]
    [found] = engine().containers.list(filters={"label": labels})
    return found


@pytest.mark.timeout(400)
def test_every_pod_is_evicted_and_users_notice_nothing(world: TargetWorld, tmp_path: Path) -> None:
    before = {component: pods(world, component) for component in ("vllm", "gateway")}
    with world.users():
        for pair in zip(*before.values(), strict=True):
            for pod in pair:
                until(partial(evicted, world, pod, tmp_path), PATIENCE_S)
            until(lambda: serves(world), PATIENCE_S)
    assert world.failed == []
    for component, names in before.items():
        assert not {*names} & {*pods(world, component)}


@pytest.mark.timeout(300)
def test_an_image_that_cannot_be_pulled_leaves_the_old_pods_to_users(world: TargetWorld) -> None:
    before, name = pods(world, "vllm"), f"slipway-{world.project.environment.name}-vllm"
    change = {"spec": {"template": {"spec": {"containers": [{"name": "vllm", **PULLS}]}}}}
    with world.users():
        kubectl(world, "patch", "deployment", name, "-p", json.dumps(change))
        until_said(world, "vllm 2 of 3 ready", "ImagePull", "see that the image is there under this digest")
        assert {*before} < {*pods(world, "vllm")}
        kubectl(world, "rollout", "undo", f"deployment/{name}")
        until(lambda: serves(world), PATIENCE_S)
    assert world.failed == []
    assert pods(world, "vllm") == before


@pytest.mark.timeout(400)
def test_beside_an_agent_that_hangs_a_release_goes_on_and_the_pod_joins_when_it_answers_again(
    world: TargetWorld,
) -> None:
    bundle, hangs = world.built(), pods(world, "vllm")[0]
    with world.users():
        with stopped(int(container(hangs, "agent").attrs["State"]["Pid"])):
            until_said(world, "vllm 1 of 2 ready", f"pod {hangs}: Unhealthy: Readiness probe failed")
            outcome = world.release(bundle, silent)
            assert (outcome.outcome, outcome.failed_user_requests) == ("live", 0), outcome.reason
        until(lambda: serves(world, bundle.served_name), PATIENCE_S)
        with open_site_of(world.project, world.home) as site:
            assert rollback(site, "tutor", by="ann", reason="a try").outcome == "rolled_back"
    assert world.failed == []


@pytest.mark.timeout(400)
def test_a_node_that_does_not_answer_is_the_reason_of_its_pods_and_gateways_go_on_without_the_cluster(
    world: TargetWorld,
) -> None:
    port = world.project.environment.gateway.port
    addresses = [f"http://{urlsplit(url).hostname}:{port}" for url in world.target.gateways]
    beside_the_service = TargetWorld(world.project, world.home, tuple(addresses), lambda: None)
    before = {component: pods(world, component) for component in ("vllm", "gateway")}
    with beside_the_service.users():
        with lost_soon(cluster()), stopped(cluster().process("kubelet")):
            lost = until_said(world, "vllm 0 of 2 ready, gateway 0 of 2 ready", "its node does not answer")
            print(lost)
            container(before["vllm"][0], "vllm").kill()
        until(lambda: serves(world), PATIENCE_S)
    assert beside_the_service.failed == []
    assert {component: pods(world, component) for component in before} == before
