"""What a real API server answers: applied, owned, refused, over quota, away and gone. Nothing runs pods here."""

import base64
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest
import yaml
from cluster_world import RealCluster, real_cluster
from release_child import TOKEN
from stub_project import until

from configs.environment import Environment
from configs.errors import SlipwayError
from configs.kubernetes import KubernetesTarget
from delivery.clients.kubernetes import ClusterAwayError, ClusterError
from tasks.serving.kubernetes.target import KubernetesPods
from tasks.serving.target import Members, ModelToServe, readiness

pytestmark = pytest.mark.live

NUMBERS = count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with real_cluster(node=False) as found:
        yield found


@pytest.fixture
def namespace(cluster: RealCluster) -> str:
    """A fresh one."""
    name = f"team-{next(NUMBERS)}"
    cluster.kubectl("create", "namespace", name)
    return name


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("SLIPWAY_VLLM_API_KEY", "a-key-of-the-replicas-for-tests")


def target(cluster: RealCluster, namespace: str, home: Path, **more: object) -> KubernetesPods:
    said = cluster.target(namespace, **{"start_timeout_s": 1, **more})
    environment = Environment.model_validate({"name": "production", "target": said})
    assert isinstance(environment.target, KubernetesTarget)
    return KubernetesPods(environment, environment.target, home)


def apply(found: KubernetesPods) -> str:
    """What `up` says in the end: nothing runs pods here."""
    refused = pytest.raises(SlipwayError, match="the pods were not there within 1 s")
    with refused as raised, found.up(ModelToServe("base", Path("/nowhere"))):
        pass
    return str(raised.value)


def play_the_kubelet(cluster: RealCluster, namespace: str) -> None:
    """Every pod runs and is ready, each at an address of its own."""
    for number, pod in enumerate(cluster.api(namespace).list("v1", "Pod"), 1):
        containers = [
            {
                "name": one["name"],
                "ready": True,
                "restartCount": 0,
                "image": one["image"],
                "imageID": "",
                "state": {"running": {}},
            }
            for one in pod["spec"]["containers"]
        ]
        status = {
            "phase": "Running",
            "podIP": f"10.9.0.{number}",
            "podIPs": [{"ip": f"10.9.0.{number}"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": containers,
        }
        _patch_status(cluster, namespace, pod["metadata"]["name"], status)


def _patch_status(cluster: RealCluster, namespace: str, name: str, status: dict[str, object]) -> None:
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    url = f"{kubeconfig['clusters'][0]['cluster']['server']}/api/v1/namespaces/{namespace}/pods/{name}/status"
    headers = {
        "Authorization": f"Bearer {kubeconfig['users'][0]['user']['token']}",
        "Content-Type": "application/strategic-merge-patch+json",
    }
    httpx.patch(url, content=json.dumps({"status": status}), headers=headers, verify=False).raise_for_status()


def pods_there(cluster: RealCluster, namespace: str, number: int) -> None:
    until(lambda: len(cluster.api(namespace).list("v1", "Pod")) == number, 20)


@contextmanager
def api_away(cluster: RealCluster) -> Iterator[None]:
    """The API server hangs: it takes connections, and answers nobody."""
    pid = cluster.process("kube-apiserver")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_up_can_be_repeated_and_down_leaves_nothing(cluster: RealCluster, namespace: str, tmp_path: Path) -> None:
    found = target(cluster, namespace, tmp_path)
    for _ in range(2):
        said = apply(found)
    assert "deployment/slipway-production-vllm" in said or "pod/slipway-production-vllm" in said
    deployment = cluster.api(namespace).get("apps/v1", "Deployment", "slipway-production-vllm")
    assert deployment is not None
    assert "slipway" in {one["manager"] for one in deployment["metadata"]["managedFields"]}
    assert found.down() == ("gateway", "vllm")
    assert found.down() == ()
    kinds = "deployment,service,configmap,secret,role,rolebinding,networkpolicy,poddisruptionbudget,lease"
    left = cluster.kubectl("-n", namespace, "get", kinds, "-l", "app.kubernetes.io/managed-by=slipway", "-o", "name")
    assert left == ""


def test_members_are_the_pods_that_are_ready_now(cluster: RealCluster, namespace: str, tmp_path: Path) -> None:
    found = target(cluster, namespace, tmp_path)
    apply(found)
    pods_there(cluster, namespace, 4)
    assert found.members() == Members((), ())
    play_the_kubelet(cluster, namespace)
    before = found.members()
    assert (len(before.replicas), len(before.gateways)) == (2, 2)
    assert readiness(found.state()) == "vllm 2 of 2 ready, gateway 2 of 2 ready"
    cluster.kubectl("-n", namespace, "delete", "pod", "-l", "app.kubernetes.io/component=vllm", "--wait=false")
    assert found.members().replicas == ()
    assert found.members().gateways == before.gateways


def test_what_somebody_else_changed_is_told_and_stays_as_it_is(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    found = target(cluster, namespace, tmp_path)
    apply(found)
    change = '{"spec": {"replicas": 5}}'
    cluster.kubectl("-n", namespace, "patch", "deployment", "slipway-production-vllm", "--type=merge", "-p", change)
    with pytest.raises(ClusterError, match=r"conflict with .*spec\.replicas"), found.up(ModelToServe("base", tmp_path)):
        pass
    assert sum(part.name == "vllm" for part in found.state()) == 5


def test_two_ledgers_never_own_one_environment(cluster: RealCluster, namespace: str, tmp_path: Path) -> None:
    mine, other = target(cluster, namespace, tmp_path / "mine"), target(cluster, namespace, tmp_path / "other")
    apply(mine)
    for attempt in (lambda: other.up(ModelToServe("base", tmp_path)).__enter__(), other.down):
        with pytest.raises(ClusterError, match=r"belongs to ledger-\w+, not to ledger-\w+"):
            attempt()
    assert mine.down() == ("gateway", "vllm")
    apply(other)


def test_the_controllers_account_can_follow_pods_and_nothing_more(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    owner = target(cluster, namespace, tmp_path)
    apply(owner)
    pods_there(cluster, namespace, 4)
    play_the_kubelet(cluster, namespace)
    secrets = cluster.api(namespace).list("v1", "Secret")
    [token] = [s["data"]["token"] for s in secrets if s["metadata"]["name"].startswith("slipway-production-controller")]
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"token": base64.b64decode(token).decode()}
    file = tmp_path / "controller.yaml"
    file.write_text(yaml.safe_dump(kubeconfig))
    limited = target(cluster, namespace, tmp_path, kubeconfig=str(file))
    assert limited.members() == owner.members()
    assert readiness(limited.state()) == readiness(owner.state())
    with pytest.raises(ClusterError, match=r"forbidden(.|\n)*have this right granted"):
        limited.down()
    with pytest.raises(ClusterError, match="forbidden"), limited.up(ModelToServe("base", tmp_path)):
        pass


def test_a_quota_is_the_reason_of_each_pod_that_it_keeps_away(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    cluster.kubectl("-n", namespace, "create", "quota", "small", "--hard=pods=3")
    said = apply(target(cluster, namespace, tmp_path))
    assert "exceeded quota: small" in said
    assert "raise the namespace's quota" in said


def test_while_the_api_server_is_away_those_who_were_there_are_known_to_every_process(
    cluster: RealCluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delivery.clients.kubernetes.TIMEOUT_S", (0.5, 0.5))
    found = target(cluster, namespace, tmp_path)
    apply(found)
    pods_there(cluster, namespace, 4)
    play_the_kubelet(cluster, namespace)
    before = found.members()
    with api_away(cluster):
        assert target(cluster, namespace, tmp_path).members() == before
        [part] = found.state()
        assert (part.name, part.healthy) == ("cluster", False)
        assert "did not list" in part.reason
        with pytest.raises(ClusterAwayError, match="nothing was lost"):
            target(cluster, namespace, tmp_path / "another").members()
    until(lambda: readiness(found.state()).startswith("vllm 2 of 2"), 20)


def test_a_namespace_that_is_gone_or_going_is_said_before_anything_is_applied(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    found = target(cluster, namespace, tmp_path)
    apply(found)
    deleted = threading.Thread(target=cluster.kubectl, args=("delete", "namespace", namespace))
    deleted.start()

    def refused() -> str:
        try:
            for check in found.before_up():
                check()
        except ClusterError as error:
            return str(error)
        return ""

    until(lambda: bool(refused()), 20)
    assert "is being deleted" in refused() or "there is no namespace" in refused()
    deleted.join(60)
    assert "there is no namespace" in refused()
    assert found.members() == Members((), ())


def test_a_cluster_without_a_way_in_is_said_with_what_to_do(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    found = target(cluster, namespace, tmp_path, context="nobody")
    with pytest.raises(ClusterError, match=r"there is no way into the cluster(.|\n)*target\.context"):
        found.members()
