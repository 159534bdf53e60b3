"""A Kubeflow Trainer v2 TrainJob that builds in one of the pool's pods, where a cluster queues TrainJobs alone.

It is of one node: the trainer uses one GPU. What a Prefect pool says of a pod in its template stands here as a patch of
the cluster's training runtime, but for what such a patch cannot say: whole Secrets, and a runtime class.
"""

from collections.abc import Sequence
from typing import Any

from configs.errors import ConfigError
from configs.pool import KubernetesPods, Pool
from flows.pools.pods import CONFINED, pod_security, run_environment, volumes_of

API = "trainer.kubeflow.org/v1alpha1"
CONTAINER, JOB = "node", "node"  # as Trainer's own runtimes call them
MANAGER = "slipway.dev/pool"


def train_job(pool: Pool, runtime: str, keys: Sequence[str]) -> dict[str, Any]:
    """The manifest. `keys`: SECRET/KEY, each found under its own name in the run's environment."""
    pods = pool.kubernetes
    if pods is None:
        raise ConfigError("a TrainJob runs on Kubernetes", where="pool.yaml", cure="say kubernetes instead of docker")
    if pods.runtime_class is not None:
        cure = "leave it out for TrainJobs, and name it in the training runtime"
        raise ConfigError("a TrainJob cannot name a runtime class", where="pool.yaml: kubernetes", cure=cure)
    command = ["slipway", "build", "--project", str(pool.project), "--home", str(pool.home)]
    amounts: dict[str, Any] = {"memory": pods.memory} | ({pods.gpu_resource: pods.gpus} if pods.gpus else {})
    return {
        "apiVersion": API,
        "kind": "TrainJob",
        "metadata": {"generateName": f"{pool.name}-build-", "namespace": pods.namespace},
        "spec": {
            "runtimeRef": {"name": runtime},
            "trainer": {
                "image": pool.image,
                "numNodes": 1,
                "numProcPerNode": 1,
                "command": command,
                "env": [
                    *({"name": name, "value": value} for name, value in run_environment(pool).items()),
                    *(_secret(pods, key) for key in keys),
                ],
                "resourcesPerNode": {"requests": {"cpu": pods.cpu, **amounts}, "limits": amounts},
            },
            "runtimePatches": [_patch(pool, pods)],
        },
    }


def _secret(pods: KubernetesPods, text: str) -> dict[str, Any]:
    secret, _, key = text.partition("/")
    if secret not in pods.secrets or not key:
        cure = f"write SECRET/KEY; pool.yaml names the Secrets {', '.join(pods.secrets) or 'of none'}"
        raise ConfigError(f"{text!r} is no key of a Secret of this pool", where="--key", cure=cure)
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _patch(pool: Pool, pods: KubernetesPods) -> dict[str, Any]:
    volumes, mounts = volumes_of(pool, pods)
    pod = {
        "nodeSelector": dict(pods.node_selector),
        "tolerations": [one.model_dump(mode="json", exclude_none=True) for one in pods.tolerations],
        "imagePullSecrets": [{"name": name} for name in pods.pull_secrets],
        "securityContext": pod_security(),
        "volumes": volumes,
        "containers": [{"name": CONTAINER, "securityContext": CONFINED, "volumeMounts": mounts}],
    }
    if pods.service_account is not None:
        pod["serviceAccountName"] = pods.service_account
    job = {"name": JOB, "template": {"spec": {"template": {"spec": pod}}}}
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
