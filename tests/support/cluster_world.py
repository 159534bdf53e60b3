"""A real Kubernetes with one node, the product's images on it, and a tiny model that real vLLM serves in its pods."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from delivery.clients.processes.ports import free_ports

CLUSTER = ROOT.parent / "shared" / "k8s" / "cluster"
CONTEXT_TOKENS = 4096


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
    """Brought up for this session and down after it; skips, with the reason, where it cannot be.

    `images` makes those that its pods run from, by default the product's. Without a `node` nothing runs, and Docker is
    not spoken to: whoever takes a cluster down removes the containers of all pods, those of another cluster too.
    """
    if not CLUSTER.exists():
        pytest.skip(f"there is no Kubernetes for tests: {CLUSTER}")
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on the PATH, run tests/engines.sh kubectl")
    folder = Path(tempfile.mkdtemp(prefix="slipway-cluster-", dir="/var/tmp"))
    folder.chmod(0o755)
    env = os.environ | {"K8S_TEST_DIR": str(folder / "k8s"), "K8S_TEST_PORT": str(free_ports(1)[0])}
    env |= {} if node else {"DOCKER_HOST": f"unix://{folder}/no-docker"}
    try:
        tags = (images or product_images)() if node else {"vllm": "none:1", "gateway": "none:1"}
        model, loras = _model(folder) if node and has_model else (folder, (folder, folder))
        words = [str(CLUSTER), "up", *(["--node"] if node else [])]
        made = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
        if made.returncode != 0:
            pytest.skip(f"Kubernetes does not start: {made.stderr[-500:]}")
        yield RealCluster(Path(made.stdout.split()[-1]), folder, tags, model, loras)
    finally:
        subprocess.run([str(CLUSTER), "down"], env=env, capture_output=True, timeout=120, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def product_images() -> dict[str, str]:
    """The gateway and vLLM of this checkout."""
    return {name: tagged(docker_images.image(name), name) for name in ("gateway", "vllm")}


def tagged(identity: str, name: str) -> str:
    """By a tag of its own: a kubelet knows no image by its ID, and another checkout may build meanwhile."""
    tag = identity.removeprefix("sha256:")[:12]
    docker_images.engine().images.get(identity).tag(f"slipway-test/{name}", tag)
    return f"slipway-test/{name}:{tag}"


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
