"""All that `slipway pool` writes: a job template for `prefect work-pool create`, and a prefect.yaml for `deploy`."""

import json
from typing import Any

import yaml

from configs.pool import Pool
from flows.pools.containers import with_containers
from flows.pools.pods import with_pods

TEMPLATE, DEPLOYMENTS = "job-template.json", "prefect.yaml"
FLOWS = ("build", "refresh")  # what computes; a release is conducted where it can wait for days


def pool_files(pool: Pool) -> dict[str, str]:
    """Texts by file name."""
    return {
        TEMPLATE: json.dumps(job_template(pool), indent=2) + "\n",
        DEPLOYMENTS: yaml.safe_dump(deployments(pool), sort_keys=False),
    }


def kind_of(pool: Pool) -> str:
    """Prefect's word for it."""
    return "kubernetes" if pool.kubernetes is not None else "docker"


def steps(pool: Pool, folder: str) -> tuple[str, str, str]:
    """The commands that make Prefect's server take the files in this folder, and start what runs flows."""
    template = f"--base-job-template {folder}/{TEMPLATE}"
    return (
        f"prefect work-pool create {pool.name} --type {kind_of(pool)} {template} --overwrite",
        f"prefect --no-prompt deploy --all --prefect-file {folder}/{DEPLOYMENTS}",
        f"prefect worker start --pool {pool.name} --type {kind_of(pool)}",
    )


def deployments(pool: Pool) -> dict[str, Any]:
    """What `prefect deploy` reads. The code is in the image: nothing is pulled."""
    return {
        "name": "slipway",
        "pull": [],
        "deployments": [
            {
                "name": pool.name,
                "entrypoint": f"flows.{flow}.{flow}",
                "tags": ["slipway"],
                "parameters": {"project": str(pool.project), "home": str(pool.home)},
                "work_pool": {"name": pool.name},
                "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
            }
            for flow in FLOWS
        ],
    }


def job_template(pool: Pool) -> dict[str, Any]:
    """Prefect's own for this kind of pool, with what pool.yaml says."""
    if pool.kubernetes is not None:
        from prefect_kubernetes.worker import KubernetesWorker

        return with_pods(KubernetesWorker.get_default_base_job_template(), pool, pool.kubernetes)
    from prefect_docker.worker import DockerWorker

    assert pool.docker is not None  # noqa: S101 - the model says so
    return with_containers(DockerWorker.get_default_base_job_template(), pool, pool.docker)
