"""Three pods with vLLM's stub and three with a gateway, whose adapters come signed from a guarded registry."""

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import pytest
from cluster_world import RealCluster
from debian_registry import PASSWORD, USER, DebianRegistry, debian_registry
from docker_images import engine
from pods_world import KEY, PodsWorld, cluster
from release_child import PLAN
from signed_bundles import Owner, certificate_owner, key_owner, required
from stub_project import stub_project

from configs.rollout import RolloutPlan
from delivery.build.bundle import Bundle
from delivery.clients.bundles.images import bundle_folder
from delivery.clients.kubernetes import ClusterError
from delivery.clients.registry.signatures import sign
from delivery.clients.registry.verify import add_signature
from delivery.progress import Progress, silent
from tasks.release.outcome import ReleaseOutcome
from tasks.release.run import run_release
from tasks.release.site import open_site_of
from tasks.serving import environment
from tasks.serving import local as serving

NAMESPACE = "pulled"
TRIES = PLAN.model_copy(
    update={
        "lease_s": 15,
        "monitor_timeout_s": 20,
        "stages": tuple(stage.model_copy(update={"min_duration_s": 3.0}) for stage in PLAN.stages),
    }
)
"""Each stage lasts long enough for pods to be killed in it."""


@dataclass
class PulledWorld(PodsWorld):
    """The same, with its registry and the one whose signature counts."""

    registry: DebianRegistry = field(kw_only=True)
    owner: Owner = field(kw_only=True)
    expired: Owner = field(kw_only=True)  # one whose certificate counted once

    def release_by(self, plan: RolloutPlan, bundle: Bundle, on_progress: Progress = silent) -> ReleaseOutcome:
        """Under another plan than the project's."""
        with open_site_of(self.project, self.home) as site:
            return run_release(replace(self.project, rollout=plan), bundle, site, on_progress=on_progress)

    def pods(self, component: str) -> list[str]:
        """Names of those that are ready and stay."""
        found = cluster().api(NAMESPACE).list("v1", "Pod", f"app.kubernetes.io/component={component}")
        return sorted(p["metadata"]["name"] for p in found if not p["metadata"].get("deletionTimestamp") and _ready(p))


def _ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@contextmanager
def pulled_world(folder: Path) -> Iterator[PulledWorld]:
    """Not up yet; all of it ends with the block."""
    os.environ.setdefault(KEY, "a-key-of-the-replicas-for-tests")
    there, owner = cluster(), key_owner(folder, "team")
    expired = certificate_owner(folder, days=(-2000, -1500), authority_days=(-2100, 9))
    with debian_registry(folder / "registry", guarded=True, address=docker_address()) as registry:
        there.kubectl("create", "namespace", NAMESPACE)
        settings = there.environment(
            NAMESPACE,
            base_model={"in_image": "/stub"},
            vllm={"gpus": 0, "replicas": 3, "cpu": "20m", "memory": "128Mi"},
            gateways={"replicas": 3, "cpu": "20m", "memory": "256Mi"},
            adapters=pulled_by_login(there, NAMESPACE, registry),
        )
        settings |= out_of(registry, team=owner, ci=expired)
        project = stub_project(folder, rollout=TRIES.model_dump(mode="json"), environment=settings)
        home = folder / "home"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in registry.login.items():
                patch.setenv(name, value)
            started = frozenset({"vllm", "gateway", serving.SUPERVISOR})
            try:
                yield PulledWorld(
                    project, home, (), lambda: None, started, registry=registry, owner=owner, expired=expired
                )
            finally:
                environment.stop(project, home)
                there.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def pulled_by_login(there: RealCluster, namespace: str, registry: DebianRegistry) -> dict[str, Any]:
    """`target.adapters`: pods pull from the registry, with its login in a Secret of the namespace."""
    login = [f"--docker-server={registry.host}", f"--docker-username={USER}", f"--docker-password={PASSWORD}"]
    there.kubectl("-n", namespace, "create", "secret", "docker-registry", "registry-login", *login)
    return {"kind": "pulled", "login_secret": "registry-login"}


def out_of(registry: DebianRegistry, **signers: Owner) -> dict[str, Any]:
    """What environment.yaml says of the registry, and of those whose signatures count."""
    return {
        "registry": {"repository": f"{registry.host}/team/adapters", "ca_file": str(registry.ca_file)},
        "signatures": required(**signers).model_dump(mode="json", exclude_defaults=True),
    }


def sign_here(bundle: Bundle, home: Path, owner: Owner) -> None:
    """As `slipway build` does it."""
    folder = bundle_folder(bundle, home)
    add_signature(folder, sign(folder / "index.json", owner.key, environ={}))


def docker_address() -> str:
    """Of this machine, as its containers see it."""
    settings = engine().networks.get("bridge").attrs["IPAM"]["Config"]
    return str(settings[0].get("Gateway") or "172.17.0.1")


@dataclass
class Killer:
    """Takes pods away at random, and containers of vLLM without a word; two of each kind that are ready are left."""

    world: PulledWorld
    every_s: float = 1.0
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    done: dict[str, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)

    def _work(self) -> None:
        while not self._stop.wait(self.every_s):
            what = self.dice.choice(("delete vllm", "delete gateway", "kill vllm"))
            verb, component = what.split()
            try:
                ready = self.world.pods(component)
                if len(ready) < 3:
                    continue
                pod = self.dice.choice(ready)
                if verb == "delete":
                    cluster().kubectl("-n", NAMESPACE, "delete", "pod", "--wait=false", pod)
                else:
                    _kill(pod, component)
            except (ClusterError, docker.errors.APIError, IndexError, subprocess.TimeoutExpired):
                continue  # it has ended meanwhile
            self.done[what] = self.done.get(what, 0) + 1


def _kill(pod: str, container: str) -> None:
    labels = [f"io.kubernetes.pod.name={pod}", f"io.kubernetes.container.name={container}"]
    engine().containers.list(filters={"label": labels})[0].kill()
