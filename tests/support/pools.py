"""pool.yaml in tests: one for each kind of pool, and what a server that took it has."""

from typing import Any

from configs.pool import Pool
from flows.pools.check import deployment_names
from flows.pools.files import job_template, kind_of
from tasks.prefect_pool import FoundDeployment, FoundPool

IMAGE = "registry.example/slipway-pipeline@sha256:" + 64 * "a"
PODS: dict[str, Any] = {
    "namespace": "training",
    "node_selector": {"gpu": "a100"},
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
    "secrets": ["slipway"],
    "mounts": [{"claim": "models", "path": "/models", "read_only": True}],
}


def kubernetes_pool(*, name: str = "slipway-gpu", project: str = "/models/tutor", **pods: Any) -> Pool:
    """Of pods with a GPU."""
    return Pool.model_validate({"name": name, "image": IMAGE, "project": project, "kubernetes": {**PODS, **pods}})


def docker_pool(**containers: Any) -> Pool:
    """Of containers with two GPUs."""
    return Pool.model_validate({"image": IMAGE, "project": "/models/tutor", "docker": {"gpus": 2, **containers}})


def found_of(pool: Pool, **other: Any) -> FoundPool:
    """As a server has it that took the pool's files, and that a worker asks for work; but for `other`."""
    deployments = {
        name: FoundDeployment(pool.name, wanted["entrypoint"], wanted["parameters"], is_paused=False)
        for name, wanted in deployment_names(pool).items()
    }
    as_written = {
        "kind": kind_of(pool),
        "template": job_template(pool),
        "is_paused": False,
        "workers": {"worker-1": True, "worker-2": False},
        "deployments": deployments,
    }
    return FoundPool(**{**as_written, **other})
