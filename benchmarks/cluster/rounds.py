"""One round of each: a release that goes live and is taken back, and a vLLM pod that is deleted and replaced."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from configs.checks import Check
from configs.project import Project
from configs.rollout import RolloutPlan, Stage
from delivery.build.bundle import Bundle
from delivery.clients.gateway import GatewayClient
from delivery.clients.vllm import VllmClient, VllmError
from tasks.release.rollback import rollback
from tasks.release.run import run_release
from tasks.release.site import Site
from tasks.serving.kubernetes.pods import is_ready
from tasks.serving.kubernetes.target import KubernetesPods

LOOK_S = 0.1
PATIENCE_S = 300.0
QUICK = RolloutPlan(
    tick_s=0.2,
    lease_s=15,
    monitor_timeout_s=20,
    max_hold_s=120,
    drain_s=0,
    stages=(Stage(kind="canary", share_bp=5000, min_requests=1), Stage(kind="full", share_bp=9000, min_requests=1)),
    checks=(Check(metric="error_rate", max=0.9),),
)
"""What is measured comes after it."""


class RoundError(Exception):
    """A round that did not come to its end, and why."""


@dataclass(frozen=True)
class ClusterUnderTest:
    """An environment on a cluster that is up, with its supervisor."""

    project: Project
    site: Site
    pods: KubernetesPods


def go_live(there: ClusterUnderTest, bundle: Bundle) -> None:
    """Releases it."""
    outcome = run_release(replace(there.project, rollout=QUICK), bundle, there.site, by="benchmark", at_any_hour=True)
    if outcome.outcome != "live":
        raise RoundError(f"the release did not go live: {outcome.outcome}, {outcome.reason}")


def rolled_back_s(there: ClusterUnderTest) -> float:
    """Seconds from the command to the moment at which every gateway has confirmed stable alone."""
    done = rollback(there.site, there.project.route, by="benchmark", reason="measured", quarantine=False)
    if done.outcome != "rolled_back" or done.to_stable_s is None:
        raise RoundError(f"the rollback did not come to its end: {done.problem}")
    return done.to_stable_s


@dataclass(frozen=True)
class ReplicaJoined:
    """Seconds until every gateway sent users to a new pod, from the moment at which its vLLM answered.

    `from_cluster_ready_s`: from the moment at which the cluster called the pod ready, which comes after that.
    """

    from_vllm_ready_s: float
    from_cluster_ready_s: float


def joined(there: ClusterUnderTest) -> ReplicaJoined:
    """Deletes one vLLM pod, and waits until its replacement has users. The others serve meanwhile."""
    selector = "app.kubernetes.io/component=vllm"
    before = {pod["metadata"]["name"]: is_ready(pod) for pod in there.pods.namespace.list("v1", "Pod", selector)}
    there.pods.namespace.delete("v1", "Pod", min(name for name, ready in before.items() if ready))
    answered_at = ready_at = None
    until = time.monotonic() + PATIENCE_S
    while (now := time.monotonic()) < until:
        found = there.pods.namespace.list("v1", "Pod", selector)
        new = [_address(pod) for pod in found if pod["metadata"]["name"] not in before and _address(pod)]
        if new and answered_at is None and _answers(there, new[0]):
            answered_at = now
        if new and ready_at is None and any(urlsplit(url).hostname == new[0] for url in there.pods.replicas):
            ready_at = now
        if new and answered_at is not None and ready_at is not None and _has_users(there, new[0]):
            return ReplicaJoined(time.monotonic() - answered_at, time.monotonic() - ready_at)
        time.sleep(LOOK_S)
    raise RoundError(f"no replacement had users within {PATIENCE_S:g} s:\n{there.pods.summary()}")


def _address(pod: dict[str, object]) -> str:
    status = pod.get("status")
    return str(status.get("podIP") or "") if isinstance(status, dict) else ""


def _answers(there: ClusterUnderTest, host: str) -> bool:
    try:
        with VllmClient(f"http://{host}:{there.project.environment.vllm.port}", "") as client:
            return client.healthy()
    except VllmError:
        return False


def _has_users(there: ClusterUnderTest, host: str) -> bool:
    """Whether every gateway's table names it for what is live."""
    tables = [client.table() for client in there.site.gateways.values() if isinstance(client, GatewayClient)]
    routes = [table.routes[there.project.route] for table in tables if table is not None]
    urls = [route.variants[route.stable].upstreams for route in routes]
    return len(urls) == len(tables) and all(any(urlsplit(str(u)).hostname == host for u in one) for one in urls)


def open_pods(project: Project, home: Path) -> KubernetesPods:
    """The project's pods. Raises RoundError for another kind of target."""
    target = project.environment.target
    if target.kind != "kubernetes":
        raise RoundError(f"target.kind is {target.kind}: this measures pods of a cluster")
    return KubernetesPods(project.environment, target, home)
