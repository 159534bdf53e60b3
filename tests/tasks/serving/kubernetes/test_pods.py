"""What the API server says of pods, and what people are told: who is ready, and why each other one is not."""

from typing import Any

import pytest

from tasks.serving.kubernetes.pods import Ports, gateways, replicas, states
from tasks.serving.target import readiness

PORTS = Ports(vllm=8100, admin=8001)


def labelled(component: str, name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}} | more}


def deployment(component: str, replicas: int, *conditions: dict[str, str]) -> dict[str, Any]:
    status = {"conditions": list(conditions)}
    return labelled(component, f"slipway-x-{component}") | {"spec": {"replicas": replicas}, "status": status}


def pod(component: str, name: str, ip: str = "10.0.0.1", *, ready: bool = True, **status: Any) -> dict[str, Any]:
    running = [{"name": component, "ready": ready, "state": {"running": {}}}]
    said = {"podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}], "containerStatuses": running}
    return labelled(component, name) | {"status": said | status}


def leaving(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"metadata": one["metadata"] | {"deletionTimestamp": "2026-11-30T12:00:00Z"}}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "vllm", "ready": False, "state": state, **more}]}


def reasons(*pods: dict[str, Any], events: list[dict[str, Any]] | None = None, wanted: int = 1) -> list[str]:
    parts = states([deployment("vllm", wanted), deployment("gateway", 0)], pods, events or [], PORTS)
    return [part.reason for part in parts]


def test_a_vllm_counts_when_it_is_ready_and_a_gateway_when_it_runs_and_neither_once_it_is_asked_to_end() -> None:
    found = [
        pod("vllm", "v1", "10.0.0.1"),
        pod("vllm", "v2", "10.0.0.2", ready=False),
        leaving(pod("vllm", "v3", "10.0.0.3")),
        pod("gateway", "g1", "10.0.1.1", ready=False),
        leaving(pod("gateway", "g2", "10.0.1.2")),
        pod("gateway", "g3", "10.0.1.3", containerStatuses=[{"name": "gateway", "state": {"waiting": {}}}]),
        pod("vllm", "v4", "fd00::4"),
    ]
    assert replicas(found, PORTS) == ("http://10.0.0.1:8100", "http://[fd00::4]:8100")
    assert gateways(found, PORTS) == ("http://10.0.1.1:8001",)


def test_ready_of_total_counts_what_is_wanted_and_not_only_what_is_there() -> None:
    quota = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": 'pods "v3" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2',
    }
    found = states(
        [deployment("vllm", 3, quota), deployment("gateway", 1)],
        [pod("vllm", "v1"), pod("vllm", "v2", "10.0.0.2"), pod("gateway", "g1", "10.0.1.1")],
        [],
        PORTS,
    )
    text = readiness(found)
    assert text.startswith("vllm 2 of 3 ready, gateway 1 of 1 ready")
    assert "exceeded quota: small" in text
    assert "-> raise the namespace's quota" in text


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (waiting("ImagePullBackOff", "Back-off pulling image"), "ImagePullBackOff: container vllm: Back-off pulling"),
        (waiting("ErrImageNeverPull", "not present"), "set target.images.pull_policy"),
        (
            waiting(
                "CrashLoopBackOff",
                restartCount=4,
                lastState={"terminated": {"reason": "Error", "exitCode": 1, "message": "a\nno model in /model"}},
            ),
            "Error with exit code 1: no model in /model; 4 restarts",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                    }
                ]
            },
            "Insufficient nvidia.com/gpu. -> make room, or ask for less",
        ),
        ({"reason": "NodeLost", "message": "Node node-1 is unresponsive"}, "NodeLost: Node node-1 is unresponsive"),
        ({"conditions": [{"type": "Ready", "status": "Unknown"}]}, "does not answer: the cluster replaces the pod"),
        (
            {
                "containerStatuses": [
                    {
                        "name": "vllm",
                        "ready": False,
                        "state": {"running": {}},
                        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                    }
                ]
            },
            "container vllm was restarted (OOMKilled with exit code 137) and is starting",
        ),
    ],
)
def test_a_pod_that_is_not_ready_has_its_reason_and_what_to_do(status: dict[str, Any], said: str) -> None:
    found = reasons(pod("vllm", "v1", ready=False, **status))
    assert len(found) == 1
    assert said in found[0]


def test_a_failing_probe_is_the_reason_where_nothing_else_is() -> None:
    def event(reason: str, message: str, at: str) -> dict[str, Any]:
        involved = {"name": "v1"}
        return {
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": at,
            "involvedObject": involved,
        }

    events = [
        event("Unhealthy", "Readiness probe failed: timeout", "2026-11-30T12:00:02Z"),
        event("MissingClusterDNS", "no DNS", "2026-11-30T12:00:03Z"),
    ]
    assert "Readiness probe failed: timeout" in reasons(pod("vllm", "v1", ready=False), events=events)[0]
    events.append(event("NodeNotReady", "Node is not ready", "2026-11-30T12:00:04Z"))
    assert "its node does not answer: the cluster" in reasons(pod("vllm", "v1", ready=False), events=events)[0]
    assert "it is starting" in reasons(pod("vllm", "v1", ready=False))[0]


def test_evicted_pods_are_over_and_what_has_taken_their_place_counts() -> None:
    over = pod("vllm", "v1", ready=False, phase="Failed", reason="Evicted", message="low on memory")
    assert reasons(over, pod("vllm", "v2")) == [""]


def test_a_deployment_that_is_not_there_is_said() -> None:
    parts = states([], [], [], PORTS)
    assert [part.reason for part in parts] == ["there is no such Deployment -> run `slipway up`"] * 2
