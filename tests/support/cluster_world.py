"""A real Kubernetes with one node, the product's images on it, and a tiny model that real vLLM serves in its pods."""

import atexit
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import docker_images
import pytest
from places import ROOT
from random_loras import TINY_LORA
from real_models import FAMILIES, save_real_model

from configs.kubernetes import KubernetesTarget
from configs.project import Project
from delivery.clients.bundles.adapters import describe, store_at
from delivery.clients.kubernetes import Namespace, open_namespace

CLUSTER = ROOT.parent / "shared" / "k8s" / "cluster"
KUBECONFIG = Path("k8s") / "kubeconfig"
CONTEXT_TOKENS = 4096
PORTS = 8


@dataclass(frozen=True)
class RealCluster:
    """`folder` can be read by pods, which are not root; `model` and `loras` lie in it."""

    kubeconfig: Path
    folder: Path
    images: dict[str, str]
    model: Path
    loras: tuple[Path, Path]

    def target(self, namespace: str, **more: Any) -> dict[str, Any]:
        """As environment.yaml says it."""
        settings = {
            "kind": "kubernetes",
            "namespace": namespace,
            "kubeconfig": str(self.kubeconfig),
            "images": {**self.images, "pull_policy": "Never"},
            "vllm": {"gpus": 0, "replicas": 2, "cpu": "100m", "memory": "3Gi"},
            "gateways": {"replicas": 2, "cpu": "50m", "memory": "256Mi"},
            "base_model": {"host_path": str(self.model)},
            "start_timeout_s": 180,
        }
        return settings | more

    def environment(self, namespace: str, **more: Any) -> dict[str, Any]:
        """The rest of environment.yaml: small caches, and users who are told apart by the name that they give."""
        return {
            "target": self.target(namespace, **more),
            "vllm": {"cpu_kv_cache_gib": 0.125, "max_concurrent_sequences": 4, "start_timeout_s": 150},
            "gateway": {"trust_user_names": True, "health_interval_s": 1},
        }

    def kubectl(self, *words: str, check: bool = True) -> str:
        """As a person would."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def api(self, namespace: str) -> Namespace:
        """The product's own way in."""
        return open_namespace(namespace, self.kubeconfig)

    def process(self, name: str) -> int:
        """The pid of one of the cluster's own, such as `kubelet`."""
        return int((self.kubeconfig.parent / f"{name}.pid").read_text())


def users_url(project: Project, cluster: RealCluster) -> str:
    """The gateways' Service, which this machine reaches."""
    target = project.environment.target
    assert isinstance(target, KubernetesTarget)
    name = f"slipway-{project.environment.name}-gateway"
    service = cluster.api(target.namespace).get("v1", "Service", name)
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


@contextmanager
def real_cluster(
    *, node: bool = True, images: Callable[[], dict[str, str]] | None = None, has_model: bool = True
) -> Iterator[RealCluster]:
    """For one module's tests; skips, with the reason, where there can be none.

    `images` makes those that its pods run from, by default the product's. The one with a `node` is the same for all
    tests of this session and ends with it: two nodes on one Docker engine would end each other's containers, for each
    takes those that it does not know for left-overs. Without a node nothing runs, and Docker is not spoken to.
    """
    if not node:
        with _started() as folder:
            none = {"vllm": "none:1", "gateway": "none:1"}
            yield RealCluster(folder / KUBECONFIG, folder, none, folder, (folder, folder))
        return
    folder = _with_node()
    tags = (images or product_images)()
    model, loras = _model(folder) if has_model else (folder, (folder, folder))
    yield RealCluster(folder / KUBECONFIG, folder, tags, model, loras)


@cache
def _with_node() -> Path:
    until_the_end = ExitStack()
    atexit.register(until_the_end.close)
    return until_the_end.enter_context(_started("--node"))


@contextmanager
def _started(*words: str) -> Iterator[Path]:
    """A folder of its own, which ends with it."""
    if not CLUSTER.exists():
        pytest.skip(f"there is no Kubernetes for tests: {CLUSTER}")
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on the PATH, run tests/engines.sh kubectl")
    folder = Path(tempfile.mkdtemp(prefix="slipway-cluster-", dir="/var/tmp"))
    folder.chmod(0o755)
    env = os.environ | {"K8S_TEST_DIR": str((folder / KUBECONFIG).parent), "K8S_TEST_PORT": str(_free_ports_in_a_row())}
    env |= {} if words else {"DOCKER_HOST": f"unix://{folder}/no-docker"}
    try:
        made = subprocess.run([str(CLUSTER), "up", *words], env=env, capture_output=True, text=True, timeout=300)
        if made.returncode != 0:
            pytest.skip(f"Kubernetes does not start: {made.stderr[-500:]}")
        yield folder
    finally:
        subprocess.run([str(CLUSTER), "down"], env=env, capture_output=True, timeout=120, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports_in_a_row() -> int:
    """The first of them, below those that connections take: each part of a cluster listens on the next one."""
    while True:
        first = random.randrange(20_000, 30_000, PORTS)
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + PORTS):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


def product_images() -> dict[str, str]:
    """The gateway and vLLM of this checkout."""
    return {name: tagged(docker_images.image(name), name) for name in ("gateway", "vllm")}


def tagged(identity: str, name: str) -> str:
    """By a tag of its own: a kubelet knows no image by its ID, and another checkout may build meanwhile."""
    tag = identity.removeprefix("sha256:")[:12]
    docker_images.engine().images.get(identity).tag(f"slipway-test/{name}", tag)
    return f"slipway-test/{name}:{tag}"


@cache
def _model(folder: Path) -> tuple[Path, tuple[Path, Path]]:
    family = replace(FAMILIES["qwen2_5"], settings={"max_position_embeddings": CONTEXT_TOKENS})
    model = save_real_model(folder / "model", family, None)
    raw = [folder / "raw-1", folder / "raw-2"]
    words = [str(model), *(word for number, one in enumerate(raw, 1) for word in (str(one), str(number)))]
    subprocess.run([sys.executable, "-c", TINY_LORA, *words], check=True, capture_output=True, timeout=300)
    loras = [store_at(one, describe(one), folder / f"lora-{number}") for number, one in enumerate(raw)]
    for path in model.iterdir():
        path.chmod(0o644)
    return model, (loras[0], loras[1])
