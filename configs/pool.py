"""`pool.yaml`: the Prefect work pool whose pods or containers build on machines with GPUs."""

from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from configs.kubernetes import Amount, Name, NamespaceName, Toleration
from configs.strict import Strict


class Mount(Strict):
    """A volume that pods share, and where they see it."""

    claim: Name | None = Field(None, description="a PersistentVolumeClaim of the namespace")
    host_path: PurePosixPath | None = Field(None, description="a folder of every node; for tests on one node")
    path: PurePosixPath = Field(description="where it is seen inside")
    read_only: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.claim is None) == (self.host_path is None):
            raise ValueError("it is one volume -> say claim or host_path, and not both")
        return self

    @field_validator("path")
    @classmethod
    def _whole(cls, path: PurePosixPath) -> PurePosixPath:
        return _whole_path(path)


class KubernetesPods(Strict):
    """Each run is a Job with one pod."""

    namespace: NamespaceName = Field(description="it is there already: Slipway makes none")
    gpus: int = Field(1, ge=0)
    gpu_resource: str = Field("nvidia.com/gpu", description="as the cluster's device plugin calls it")
    cpu: Amount = "4"
    memory: Amount = "32Gi"
    scratch: Amount = Field("50Gi", description="of the node's disk, for the state folder; gone with the pod")
    shared_memory: Amount = "1Gi"
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: Name | None = None
    service_account: Name | None = Field(None, description="by default the namespace's own, whose token is not given")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        "IfNotPresent", description="Never: the nodes have the image already, and its tag is believed"
    )
    pull_secrets: tuple[Name, ...] = ()
    secrets: tuple[Name, ...] = Field((), description="Secrets whose keys a run finds in its environment")
    mounts: tuple[Mount, ...] = ()
    restarts: int = Field(3, ge=0, le=20, description="of a pod that was evicted, or whose node is gone")
    start_timeout_s: int = Field(600, ge=10, description="a pod that is not running by then fails its run")


class DockerContainers(Strict):
    """Each run is a container of the worker's engine."""

    gpus: int = Field(0, ge=0, description="0: none; the first so many of the machine")
    memory_gib: float | None = Field(None, gt=0)
    network: str | None = Field(None, description="of the engine, e.g. the one that the database is in")
    volumes: tuple[str, ...] = Field((), description="HERE:INSIDE or HERE:INSIDE:ro, as Docker has it")
    pass_on: tuple[str, ...] = Field(
        (), description="names in the worker's environment that a run finds in its own, e.g. AWS_SECRET_ACCESS_KEY"
    )


class Pool(Strict):
    """A work pool of one kind; `slipway pool` writes what Prefect is told of it."""

    name: str = Field("slipway-gpu", pattern=r"^[a-z0-9][a-z0-9-]*$", description="of the pool, and of its deployments")
    image: str = Field(min_length=1, description="Slipway's own: registry.example/slipway-pipeline@sha256:...")
    project: PurePosixPath = Field(description="this project's folder as a run sees it, on a volume or in the image")
    home: PurePosixPath = Field(PurePosixPath("/work"), description="the state folder as a run sees it")
    env: dict[str, str] = Field(default_factory=dict, description="nothing secret: Prefect shows it")
    kubernetes: KubernetesPods | None = None
    docker: DockerContainers | None = None

    @field_validator("project", "home")
    @classmethod
    def _whole(cls, path: PurePosixPath) -> PurePosixPath:
        return _whole_path(path)

    @field_validator("env")
    @classmethod
    def _nothing_secret(cls, env: dict[str, str]) -> dict[str, str]:
        secret = sorted(name for name in env if any(word in name.upper() for word in ("SECRET", "PASSWORD", "TOKEN")))
        if secret:
            raise ValueError(f"{', '.join(secret)} would be shown by Prefect -> kubernetes.secrets, or docker.pass_on")
        return env

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.kubernetes is None) == (self.docker is None):
            raise ValueError("a pool is of one kind -> say kubernetes or docker, and not both")
        believed = self.docker is not None or (self.kubernetes is not None and self.kubernetes.pull_policy == "Never")
        if "@sha256:" not in self.image and not believed:
            raise ValueError(
                f"{self.image} can be another image tomorrow -> name it by digest, as NAME@sha256:...;"
                " only pull_policy: Never takes a tag"
            )
        return self


def _whole_path(path: PurePosixPath) -> PurePosixPath:
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError("it is a path inside a pod or a container, from its root on -> e.g. /projects/tutor")
    return path
