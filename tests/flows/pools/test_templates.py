"""From pool.yaml to what Prefect's workers start: the workers' own code makes pods and containers of our templates."""

import asyncio
from typing import Any

import kubernetes_validate
import pytest
from pools import IMAGE, docker_pool, kubernetes_pool
from prefect_docker.worker import DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from configs.pool import Pool
from flows.pools.files import job_template


def job(pool: Pool) -> dict[str, Any]:
    """What the worker applies; `env` becomes a list at the very end, once the run is known."""
    made: KubernetesWorkerJobConfiguration = made_by(KubernetesWorkerJobConfiguration, pool)
    container = made.job_manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": value} for name, value in made.env.items()]
    container["args"] = ["prefect", "flow-run", "execute"]
    return made.job_manifest


def made_by(kind: Any, pool: Pool) -> Any:
    return asyncio.run(kind.from_template_and_values(job_template(pool), {}, client=object()))


@pytest.mark.parametrize(
    "pool",
    [kubernetes_pool(), kubernetes_pool(gpus=0, mounts=[{"claim": "state", "path": "/work"}], runtime_class="nvidia")],
)
def test_a_job_is_valid_by_the_schemas_of_a_current_cluster(pool: Pool) -> None:
    kubernetes_validate.validate(job(pool), kubernetes_validate.latest_version(), strict=True)


def test_a_pod_has_gpus_on_a_node_that_was_chosen_and_no_rights() -> None:
    pod = job(kubernetes_pool(gpus=2, pull_secrets=["registry"]))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": 2}
    assert container["resources"]["requests"] == {"cpu": "4", "memory": "32Gi", "nvidia.com/gpu": 2}
    assert pod["nodeSelector"] == {"gpu": "a100"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert container["envFrom"] == [{"secretRef": {"name": "slipway"}}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_the_state_folder_goes_with_its_pod_unless_it_is_on_a_volume() -> None:
    def at_work(pool: Pool) -> dict[str, Any]:
        pod = job(pool)["spec"]["template"]["spec"]
        (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["mountPath"] == "/work")
        (volume,) = (one for one in pod["volumes"] if one["name"] == mount["name"])
        return volume

    assert at_work(kubernetes_pool())["emptyDir"] == {"sizeLimit": "50Gi"}
    kept = at_work(kubernetes_pool(mounts=[{"claim": "state", "path": "/work"}]))
    assert kept["persistentVolumeClaim"] == {"claimName": "state", "readOnly": False}


def test_a_container_may_write_to_its_volumes_alone_and_finds_the_secrets_of_its_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the worker")
    pool = docker_pool(pass_on=["AWS_SECRET_ACCESS_KEY"], memory_gib=1.5, volumes=["models:/models:ro"], network="db")
    assert "of the worker" not in str(job_template(pool))
    made: DockerWorkerJobConfiguration = made_by(DockerWorkerJobConfiguration, pool)
    assert made.env["AWS_SECRET_ACCESS_KEY"] == "of the worker"
    assert (made.env["SLIPWAY_HOME"], made.env["PREFECT_HOME"]) == ("/work", "/tmp/prefect")
    assert made.volumes == ["models:/models:ro", "/work"], "the second has no name: it goes with the container"
    assert (made.mem_limit, made.memswap_limit, made.networks) == ("1536m", "1536m", ["db"])
    assert made.container_create_kwargs is not None
    assert made.container_create_kwargs["read_only"]
    assert made.container_create_kwargs["cap_drop"] == ["ALL"]
    assert made.container_create_kwargs["device_requests"][0]["Count"] == 2


def test_a_container_whose_state_folder_is_a_volume_gets_no_other_one() -> None:
    made: DockerWorkerJobConfiguration = made_by(DockerWorkerJobConfiguration, docker_pool(volumes=["state:/work"]))
    assert made.volumes == ["state:/work"]
