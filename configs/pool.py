"""`pool.yaml`: the Prefect work pool whose pods or containers build on machines with GPUs."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from configs.errors import UNSAID
from configs.kubernetes import Amount, NamespaceName, ResourceName, Toleration
from configs.strict import Strict

OWN_PLACES = ("/", "/dev/shm", "/opt", "/opt/slipway", "/opt/venv", "/tmp")  # noqa: S108 - the image's
SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|API_?KEY|CREDENTIAL|AUTH_STRING|://[^/@]*:[^/@]*@", re.IGNORECASE)
IMAGE_HOME = PurePosixPath("/work")  # the image's user may write here


def _whole(path: PurePosixPath) -> PurePosixPath:
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError("it is a path inside a pod or a container, from its root on -> e.g. /projects/tutor")
    return path


Inside = Annotated[PurePosixPath, AfterValidator(_whole)]
Volume = Annotated[str, StringConstraints(pattern=r"^[^:]+:/[^:]+(:ro|:rw)?$")]


class Mount(Strict):
    """A volume that pods share, and where they see it."""

    claim: ResourceName | None = Field(None, description="a PersistentVolumeClaim of the namespace")
    host_path: PurePosixPath | None = Field(None, description="a folder of every node; for tests on one node")
    path: Inside = Field(description="where it is seen inside")
    read_only: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.claim is None) == (self.host_path is None):
            raise ValueError("it is one volume -> say claim or host_path, and not both")
        return self


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
    runtime_class: ResourceName | None = None
    service_account: ResourceName | None = Field(
        None, description="by default the namespace's own, whose token is not given"
    )
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        "IfNotPresent", description="Never: the nodes have the image already, and its tag is believed"
    )
    pull_secrets: tuple[ResourceName, ...] = ()
    secrets: tuple[ResourceName, ...] = Field((), description="Secrets whose keys a run finds in its environment")
    mounts: tuple[Mount, ...] = ()
    restarts: int = Field(3, ge=0, le=20, description="of a pod that was evicted, or whose node is gone")
    start_timeout_s: int = Field(600, ge=10, description="a pod that is not running by then fails its run")

    @field_validator("mounts")
    @classmethod
    def _one_a_place(cls, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
        _refuse_places([str(mount.path) for mount in mounts])
        return mounts


class DockerContainers(Strict):
    """Each run is a container of the worker's engine."""

    gpus: int = Field(0, ge=0, description="0: none; the first so many of the machine")
    memory_gib: float | None = Field(None, gt=0)
    network: str | None = Field(None, description="of the engine, e.g. the one that the database is in")
    volumes: tuple[Volume, ...] = Field((), description="HERE:INSIDE or HERE:INSIDE:ro, as Docker has it")
    pass_on: tuple[str, ...] = Field(
        (), description="names in the worker's environment that a run finds in its own, e.g. AWS_SECRET_ACCESS_KEY"
    )

    @field_validator("volumes")
    @classmethod
    def _one_a_place(cls, volumes: tuple[str, ...]) -> tuple[str, ...]:
        _refuse_places([volume.split(":")[1] for volume in volumes])
        return volumes


class Pool(Strict):
    """A work pool of one kind; `slipway pool` writes what Prefect is told of it."""

    name: str = Field("slipway-gpu", pattern=r"^[a-z0-9][a-z0-9-]*$", description="of the pool, and of its deployments")
    image: str = Field(min_length=1, description="Slipway's own: registry.example/slipway-pipeline@sha256:...")
    project: Inside = Field(description="this project's folder as a run sees it, on a volume or in the image")
    home: Inside = Field(IMAGE_HOME, description="the state folder as a run sees it")
    env: dict[str, str] = Field(default_factory=dict, description="nothing secret: Prefect shows it")
    kubernetes: KubernetesPods | None = None
    docker: DockerContainers | None = None

    @field_validator("env")
    @classmethod
    def _nothing_secret(cls, env: dict[str, str]) -> dict[str, str]:
        secret = sorted(name for name, value in env.items() if SECRET.search(name) or SECRET.search(value))
        if secret:
            text = f"{', '.join(secret)} would be shown by Prefect -> kubernetes.secrets, or docker.pass_on"
            raise PydanticCustomError(UNSAID, "{text}", {"text": text})
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

    @model_validator(mode="after")
    def _room_for_state(self) -> Self:
        if self.docker is not None and not self.home.is_relative_to(IMAGE_HOME) and not self.keeps(self.home):
            raise ValueError(
                f"nobody may write to {self.home} in the image -> home: {IMAGE_HOME}, or a volume in docker.volumes"
            )
        if any(self.home.is_relative_to(place) for place, read_only in self._places() if read_only):
            raise ValueError(
                f"home is {self.home}, on a volume that is read-only -> another home, or let it be written"
            )
        return self

    def keeps(self, path: PurePosixPath) -> bool:
        """Whether what a run writes to this path lies on a volume, which outlives the run."""
        return any(path.is_relative_to(place) for place, read_only in self._places() if not read_only)

    def _places(self) -> list[tuple[PurePosixPath, bool]]:
        """Where a run sees volumes, each with whether it is read-only."""
        if self.kubernetes is not None:
            return [(mount.path, mount.read_only) for mount in self.kubernetes.mounts]
        words = [volume.split(":") for volume in self.docker.volumes] if self.docker is not None else []
        return [(PurePosixPath(inside), more == ["ro"]) for _, inside, *more in words]


def _refuse_places(places: list[str]) -> None:
    taken = sorted({place for place in places if places.count(place) > 1 or (place.rstrip("/") or "/") in OWN_PLACES})
    if taken:
        raise ValueError(f"{', '.join(taken)} is another volume's place, or the image's own -> e.g. /shared")
