"""Real vLLM in pods that pull adapters from a registry: released while pods are deleted, and taken back."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import docker_images
import pytest
from cluster_world import RealCluster, real_cluster, users_url
from debian_registry import debian_registry
from pulled_world import docker_address, out_of, pulled_by_login, sign_here
from release_child import PLAN, TOKEN
from signed_bundles import Owner, key_owner
from stub_project import stub_project, until
from target_worlds import TargetWorld

from benchmarks.tiny_bundle import tiny_bundle
from configs.errors import require_all
from configs.rollout import Stage
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from delivery.clients.vllm import VllmClient, VllmError
from delivery.progress import silent
from tasks.preflight import before_release
from tasks.release.rollback import rollback
from tasks.release.run import approve
from tasks.release.site import Site, open_ledger, open_site_of
from tasks.serving import environment
from tasks.serving.target import readiness

pytestmark = pytest.mark.live

NAMESPACE = "serving"
KEY = "a-key-of-the-replicas-for-tests"
PATIENT = PLAN.model_copy(
    update={
        "lease_s": 15,
        "monitor_timeout_s": 20,
        "max_hold_s": 180,
        "stages": (
            *(
                stage.model_copy(update={"min_requests": 5, "approval": stage.kind == "canary"})
                for stage in PLAN.stages
            ),
            Stage(kind="watch", min_requests=5),
        ),
    }
)
"""The canary waits for somebody: until the replacement of a pod that was deleted in it serves the candidate."""


@dataclass
class ClusterWorld(TargetWorld):
    """The same, with its cluster."""

    cluster: RealCluster = field(kw_only=True)
    owner: Owner = field(kw_only=True)

    def pods(self, component: str) -> list[str]:
        """Names of the pods that stay."""
        found = self.cluster.api(NAMESPACE).list("v1", "Pod", f"app.kubernetes.io/component={component}")
        return sorted(p["metadata"]["name"] for p in found if not p["metadata"].get("deletionTimestamp"))

    def upstreams(self, variant: str) -> set[str]:
        """Where the gateways send a variant's users."""
        with open_site_of(self.project, self.home) as site:
            tables = [client.table() for client in site.gateways.values()]
        found = [table.routes["tutor"].variants.get(variant) for table in tables if table is not None]
        return {url for one in found if one is not None for url in one.upstreams}

    def lists(self, url: str, model: str) -> bool:
        """Whether this replica has the model now."""
        with VllmClient(url, KEY) as client:
            return model in client.models()

    def built_from(self, number: int) -> Bundle:
        """A bundle with a real adapter of the tiny model."""
        folder = self.cluster.loras[number]
        bundle = tiny_bundle("Answer shortly.", describe(folder))
        write_bundle(bundle, folder, self.home)
        sign_here(bundle, self.home, self.owner)
        ledger = open_ledger(self.project.environment, self.home)
        ledger.add_build(bundle, GateDecision(passed=True, findings=()), time.time())
        ledger.close()
        return bundle


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with real_cluster() as found:
        found.kubectl("create", "namespace", NAMESPACE)
        yield found


@pytest.fixture(scope="module")
def world(cluster: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterWorld]:
    """Two vLLM and two gateways as pods, and their supervisor here."""
    folder = tmp_path_factory.mktemp("cluster")
    owner, address = key_owner(folder, "team"), docker_address()
    with (
        pytest.MonkeyPatch.context() as patch,
        debian_registry(folder / "registry", guarded=True, address=address) as registry,
    ):
        for name, value in {"SLIPWAY_ADMIN_TOKEN": TOKEN, "SLIPWAY_VLLM_API_KEY": KEY, **registry.login}.items():
            patch.setenv(name, value)
        settings = cluster.environment(NAMESPACE, adapters=pulled_by_login(cluster, NAMESPACE, registry))
        project = stub_project(
            folder,
            rollout=PATIENT.model_dump(mode="json"),
            model=cluster.model,
            environment=settings | out_of(registry, team=owner),
        )
        home = folder / "home"
        try:
            environment.start(project, home, silent, attached=True)
            yield ClusterWorld(
                project, home, (users_url(project, cluster),), lambda: None, cluster=cluster, owner=owner
            )
        finally:
            environment.stop(project, home)


@dataclass
class Operator:
    """Deletes a vLLM pod in the canary, and lets the release go on when its replacement serves the candidate."""

    world: ClusterWorld
    bundle: Bundle
    before: frozenset[str]
    wrong: list[str] = field(default_factory=list)
    joined_s: float | None = None  # from ready to having users
    _thread: threading.Thread | None = None

    def listen(self, done: int, total: int, text: str) -> None:
        """The release's progress."""
        if "1-canary" in text and self._thread is None:
            self._thread = threading.Thread(target=self._work)
            self._thread.start()

    def _work(self) -> None:
        world, model = self.world, self.bundle.served_name
        world.cluster.kubectl("-n", NAMESPACE, "delete", "pod", "--wait=false", world.pods("vllm")[0])
        ready_at, deadline = None, time.monotonic() + 240
        while time.monotonic() < deadline:
            new = set(world.target.replicas) - self.before
            if new and ready_at is None:
                ready_at = time.monotonic()
            has_users = world.upstreams(self.bundle.variant_name) & new
            self.wrong += [url for url in has_users if not world.lists(url, model)]
            if has_users and ready_at is not None:
                self.joined_s = time.monotonic() - ready_at
                break
            time.sleep(0.3)
        with open_site_of(world.project, world.home) as site:
            until(lambda: _waits(site), 60)
            approve(site, "tutor", approved=True, by="ann", reason="the replacement serves it")

    def join(self) -> None:
        """Waits for its end."""
        assert self._thread is not None
        self._thread.join(60)


def _waits(site: Site) -> bool:
    found = site.ledger.unfinished(site.name, "tutor")
    return found is not None and found.awaiting_approval


@pytest.fixture(scope="module")
def bundle(world: ClusterWorld) -> Bundle:
    return world.built_from(0)


@pytest.mark.timeout(500)
def test_a_release_reaches_every_pod_while_one_is_replaced_in_its_canary_and_users_notice_nothing(
    world: ClusterWorld, bundle: Bundle
) -> None:
    require_all("not now", before_release(world.project, world.home, accept_blind_plan=True))
    operator = Operator(world, bundle, frozenset(world.target.replicas))
    with world.users(at_once=2):
        outcome = world.release(bundle, operator.listen)
        operator.join()
    assert (outcome.outcome, outcome.failed_user_requests) == ("live", 0), (outcome, world.failed[:3])
    assert operator.joined_s is not None, "the replacement got its users in the canary"
    assert operator.wrong == [], "nobody is sent to a pod that does not have the adapter"
    assert world.failed == []
    with open_site_of(world.project, world.home) as site:
        live = site.require_route("tutor").live
    assert set(live.variant.upstreams) == set(world.target.replicas)
    assert len(live.variant.upstreams) == 2
    assert {models[bundle.served_name] for models in world.models()} == {live.adapter_path}
    print(f"{world.asked} requests, 0 failed; joined {operator.joined_s:.1f} s")


@pytest.mark.timeout(300)
def test_a_container_that_was_killed_has_the_live_adapter_again_and_a_new_gateway_its_table(
    world: ClusterWorld, bundle: Bundle
) -> None:
    with world.users(at_once=2):
        before = set(world.pods("gateway"))
        world.cluster.kubectl("-n", NAMESPACE, "delete", "pod", "--wait=false", sorted(before)[0])
        kill_container(world.pods("vllm")[0], "vllm")
        until(lambda: len(world.target.replicas) == 1, 60)
        until(lambda: len(world.target.replicas) == 2 and whole(world, bundle), 200)
        until(lambda: readiness(world.target.state()) == "vllm 2 of 2 ready, gateway 2 of 2 ready", 60)
    assert set(world.pods("gateway")) != before
    assert world.failed == []


@pytest.mark.timeout(100)
def test_a_rollback_takes_it_off_every_pod_at_once(world: ClusterWorld, bundle: Bundle) -> None:
    with world.users(at_once=2), open_site_of(world.project, world.home) as site:
        done = rollback(site, "tutor", by="ann", reason="a try")
    assert done.outcome == "rolled_back", done.problem
    assert done.to_stable_s is not None
    assert world.failed == []
    assert all(bundle.served_name not in models for models in world.models())
    print(f"{world.asked} requests, 0 failed; to stable {done.to_stable_s:.2f} s")


def kill_container(pod: str, name: str) -> None:
    """kill -9, behind the cluster's back."""
    engine = docker_images.engine()
    labels = [f"io.kubernetes.pod.name={pod}", f"io.kubernetes.container.name={name}"]
    [found] = engine.containers.list(filters={"label": labels})
    found.kill()


def whole(world: ClusterWorld, bundle: Bundle) -> bool:
    """Whether every replica that is ready lists the bundle's model."""
    try:
        return all(bundle.served_name in models for models in world.models())
    except VllmError:
        return False
