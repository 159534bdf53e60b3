"""The job template of a Kubernetes pool: hardened pods with GPUs, nothing of which stays on a node."""

import copy
from typing import Any

from configs.pool import KubernetesPods, Mount, Pool

USER = 10001  # of the image
PREFECT_HOME = "/tmp/prefect"  # noqa: S108 - the pod's
CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""A container's security context."""


def with_pods(template: dict[str, Any], pool: Pool, pods: KubernetesPods) -> dict[str, Any]:
    """Prefect's own base job template for Kubernetes (`template`), with this pool's pods."""
    made = copy.deepcopy(template)
    set_defaults(
        made,
        {
            "image": pool.image,
            "image_pull_policy": pods.pull_policy,
            "namespace": pods.namespace,
            "backoff_limit": pods.restarts,
            "finished_job_ttl": 3600,
            "pod_watch_timeout_seconds": pods.start_timeout_s,
            "cpu_request": pods.cpu,
            "memory_request": pods.memory,
            "memory_limit": pods.memory,
            "env": run_environment(pool),
        }
        | ({"service_account_name": pods.service_account} if pods.service_account else {}),
    )
    job = made["job_configuration"]["job_manifest"]["spec"]
    spec = job["template"]["spec"]
    # Prefect's template has them in the pod, where Kubernetes knows no such fields
    job |= {name: spec.pop(name) for name in ("completions", "parallelism") if name in spec}
    (container,) = spec["containers"]
    container["securityContext"] = dict(CONFINED)
    container["envFrom"] = [{"secretRef": {"name": name}} for name in pods.secrets]
    if pods.gpus:
        container["resources"]["limits"][pods.gpu_resource] = pods.gpus
        container["resources"]["requests"][pods.gpu_resource] = pods.gpus
    volumes, mounts = volumes_of(pool, pods)
    container["volumeMounts"] = mounts
    spec |= {
        "automountServiceAccountToken": pods.service_account is not None,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": pod_security(),
        "nodeSelector": dict(pods.node_selector),
        "tolerations": [one.model_dump(mode="json", exclude_none=True) for one in pods.tolerations],
        "imagePullSecrets": [{"name": name} for name in pods.pull_secrets],
        "volumes": volumes,
    }
    if pods.runtime_class:
        spec["runtimeClassName"] = pods.runtime_class
    return made


def set_defaults(template: dict[str, Any], values: dict[str, Any]) -> None:
    """A run's variables, which a deployment may still set. KeyError for one that this kind of pool lacks."""
    variables = template["variables"]["properties"]
    for name, value in values.items():
        variables[name]["default"] = value


def pod_security() -> dict[str, Any]:
    """A pod's security context: the image's user, who may write to the pod's volumes."""
    return {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}


def run_environment(pool: Pool) -> dict[str, str]:
    """What each run finds in its environment, besides its image's, its worker's settings of Prefect, and secrets.

    Where the worker keeps its own files is among those settings, and is no place in a pod.
    """
    return {"SLIPWAY_HOME": str(pool.home), "PREFECT_HOME": PREFECT_HOME, **pool.env}


def volumes_of(pool: Pool, pods: KubernetesPods) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Places to write that go away with the pod, and what is shared. A shared state folder takes scratch's place."""
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pods.shared_memory}}
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}, shm]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108 - the pod's
    for number, mount in enumerate(pods.mounts):
        volumes.append({"name": f"mount-{number}", **_source(mount)})
        mounts.append({"name": f"mount-{number}", "mountPath": str(mount.path), "readOnly": mount.read_only})
    if not pool.keeps(pool.home):
        volumes.append({"name": "work", "emptyDir": {"sizeLimit": pods.scratch}})
        mounts.append({"name": "work", "mountPath": str(pool.home)})
    return volumes, mounts


def _source(mount: Mount) -> dict[str, Any]:
    if mount.claim is not None:
        return {"persistentVolumeClaim": {"claimName": mount.claim, "readOnly": mount.read_only}}
    return {"hostPath": {"path": str(mount.host_path), "type": "Directory"}}
