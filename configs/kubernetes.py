"""What a team says of its cluster: how vLLM and gateways run as pods, and how adapters get there."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from configs.strict import Strict

ResourceName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
NamespaceName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Amount = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", description="e.g. 500m, 16Gi")]
IndexDigest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", description="as slipway push prints it")]
Cidr = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$", description="e.g. 10.0.0.0/24")]


class Images(Strict):
    """The two images, named by digest: a tag may be another image tomorrow."""

    vllm: str = Field(min_length=1, description="e.g. registry.example/vllm@sha256:...")
    gateway: str = Field(min_length=1, description="Slipway's own; the agent beside each vLLM runs from it too")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        "IfNotPresent", description="Never: the nodes have the images already, and their tags are believed"
    )
    pull_secrets: tuple[ResourceName, ...] = ()
    python: str = Field("python3", description="the interpreter inside both images that has vLLM, and Slipway")

    @model_validator(mode="after")
    def _by_digest(self) -> Self:
        tags = [ref for ref in (self.vllm, self.gateway) if "@sha256:" not in ref]
        if tags and self.pull_policy != "Never":
            raise ValueError(
                f"{', '.join(tags)} can be another image tomorrow -> name it by digest, as NAME@sha256:...;"
                " only pull_policy: Never takes a tag"
            )
        return self


class Toleration(Strict):
    """As Kubernetes has it."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Pods(Strict):
    """How many, and what each may use."""

    replicas: int = Field(2, ge=1)
    max_replicas: int | None = Field(
        None, ge=1, description="an autoscaler keeps the number between replicas and this, by CPU; by default fixed"
    )
    target_cpu_percent: int = Field(70, ge=1, le=100, description="of the CPU asked for, where there is an autoscaler")
    cpu: Amount = "1"
    memory: Amount = "1Gi"
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    @model_validator(mode="after")
    def _room_to_grow(self) -> Self:
        if self.max_replicas is not None and not 0 < self.replicas < self.max_replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas} and replicas is {self.replicas} -> leave max_replicas out"
                " for a fixed number, or make it larger, with one replica at least"
            )
        return self


class VllmPods(Pods):
    """vLLM's pods; `vllm:` of environment.yaml says how vLLM itself is started."""

    cpu: Amount = "4"
    memory: Amount = "16Gi"
    gpus: int = Field(1, ge=0, description="for each pod; 0: the image has vLLM's CPU build")
    gpu_resource: str = Field("nvidia.com/gpu", description="as the cluster's device plugin calls it")
    runtime_class: ResourceName | None = None
    shared_memory: Amount = Field("1Gi", description="where vLLM's processes talk through memory")


class GatewayPods(Pods):
    """The gateways' pods. No replicas: another member of a combined target has the gateways."""

    replicas: int = Field(2, ge=0)
    cpu: Amount = "500m"
    memory: Amount = "512Mi"


class BaseModelSource(Strict):
    """Where each vLLM finds the base model: on a volume that pods share, in an image, or on the node."""

    claim: ResourceName | None = Field(None, description="a PersistentVolumeClaim that many nodes may read")
    image: str | None = Field(None, description="an image as a volume (Kubernetes 1.31 and newer), by digest")
    host_path: PurePosixPath | None = Field(None, description="a folder of every node; for tests on one node")
    in_image: PurePosixPath | None = Field(None, description="a folder inside vLLM's own image")
    sub_path: str = Field("", description="the model's folder inside the claim or the image")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        said = [name for name in ("claim", "image", "host_path", "in_image") if getattr(self, name) is not None]
        if len(said) != 1:
            found = ", ".join(said) or "none"
            raise ValueError(f"{found} is given -> say one of claim, image, host_path, in_image")
        if self.image is not None and "@sha256:" not in self.image:
            raise ValueError(f"{self.image} can be another image tomorrow -> name it by digest, as NAME@sha256:...")
        return self


class SentAdapters(Strict):
    """The controller sends an adapter's files to each pod's agent, which checks and keeps them while the pod lives."""

    kind: Literal["sent"] = "sent"
    room: Amount = Field("4Gi", description="for all adapters of one pod")


class PulledAdapters(Strict):
    """Each pod's agent pulls bundles from `registry.repository` by itself, and verifies bytes and signatures."""

    kind: Literal["pulled"]
    room: Amount = Field("4Gi", description="for all adapters of one pod, and for one bundle while it comes")
    login_secret: ResourceName | None = Field(
        None, description="a Secret of kind kubernetes.io/dockerconfigjson in the namespace, with the registry's login"
    )
    from_start: tuple[IndexDigest, ...] = Field(
        (), description="bundles, by their digest in the registry, that a pod must have before its vLLM starts"
    )
    registry_networks: tuple[Cidr, ...] = Field(
        (), description="where the registry is: pods may ask there, on its port; by default everywhere, on its port"
    )


class SharedAdapters(Strict):
    """A volume that all vLLM pods mount read-only. Each pod's agent checks what its own pod sees there."""

    kind: Literal["shared"]
    claim: ResourceName | None = None
    host_path: PurePosixPath | None = Field(None, description="a folder of every node; for tests on one node")
    here: Path | None = Field(
        None, description="the same folder as this machine sees it; by default `adapters` in the state folder"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.claim is None) == (self.host_path is None):
            raise ValueError("it is one volume -> say claim or host_path, and not both")
        return self


class KubernetesTarget(Strict):
    """vLLM and gateways as Deployments of one namespace, which `slipway up` applies and `slipway down` deletes.

    The controller talks to pods at their own addresses: it runs in the cluster, or on a machine that reaches them.
    """

    kind: Literal["kubernetes"]
    namespace: NamespaceName = Field(description="it is there already: Slipway makes none")
    kubeconfig: Path | None = Field(None, description="by default KUBECONFIG, else ~/.kube/config")
    context: str | None = Field(None, description="of the kubeconfig; by default its current one")
    in_cluster: bool = Field(False, description="the controller is a pod and uses its service account")
    images: Images
    vllm: VllmPods = VllmPods()
    gateways: GatewayPods = GatewayPods()
    base_model: BaseModelSource
    adapters: SentAdapters | PulledAdapters | SharedAdapters = Field(SentAdapters(), discriminator="kind")
    controllers: tuple[Cidr, ...] = Field(
        (), description="networks outside the cluster from which a controller reaches pods"
    )
    start_timeout_s: float = Field(600.0, gt=0, description="for all pods together")

    @field_validator("kubeconfig")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path is not None else None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.in_cluster and (self.kubeconfig or self.context):
            raise ValueError("in_cluster uses the pod's service account -> leave kubeconfig and context out")
        return self
