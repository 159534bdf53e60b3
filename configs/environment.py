"""Where vLLM and the gateway run, and where the ledger is."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from configs.control_room import ControlRoom
from configs.docker import DockerTarget
from configs.gateway import GatewayConfig
from configs.gitops import GitOps
from configs.kubernetes import KubernetesTarget, PulledAdapters
from configs.notifications import Notifications
from configs.registry import RegistryConfig, Signatures
from configs.retention import Retention
from configs.store import StoreConfig
from configs.strict import Strict
from configs.target import ExternalTarget, LocalTarget, TargetSettings
from configs.training_place import TrainingPlace

OF_ONE_MACHINE = {"admin_host", "admin_port", "table_state", "budget_state", "reuse_port"}  # fields of GatewayConfig


class VllmConfig(Strict):
    """The local vLLM process, in an environment of its own."""

    host: str = "127.0.0.1"
    port: int = Field(8100, ge=1, le=65535)
    python: Path | None = Field(
        None,
        description="the interpreter that has vLLM; by default what SLIPWAY_VLLM_PYTHON names, else .venv-vllm beside "
        "the environment or the checkout that slipway runs from",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    cpu_kv_cache_gib: float = Field(1.0, gt=0, description="CPU builds only")
    gpu_memory_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="GPUs only: what vLLM reserves of the GPU's memory for weights and KV cache; the rest is for "
        "training beside it. vLLM's own default, 0.92, is for a GPU on which nothing else runs",
    )
    max_loras: int = Field(2, ge=2, description="adapters per batch: stable and candidate need 2")
    max_cpu_loras: int = Field(8, ge=2, description="adapters kept in memory")
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 16
    max_concurrent_sequences: int = Field(16, ge=1)
    start_timeout_s: float = Field(300.0, gt=0)
    extra_args: tuple[str, ...] = ()


class Environment(Strict):
    """One place where releases happen. Secrets (tokens) come from the environment, never from here."""

    name: str = Field("local", pattern=r"^[a-z0-9][a-z0-9-]*$")
    ledger_url: str | None = Field(None, description="SQLAlchemy URL; by default SQLite below the state folder")
    target: TargetSettings = Field(
        LocalTarget(), description="where vLLM and the gateway run; by default on this machine"
    )
    vllm: VllmConfig = VllmConfig()
    gateway: GatewayConfig = GatewayConfig()
    registry: RegistryConfig = RegistryConfig()
    signatures: Signatures = Signatures()
    retention: Retention = Field(Retention(), description="what `slipway gc` keeps below the state folder")
    training: TrainingPlace = Field(
        TrainingPlace(), description="what a training may cost, and what an hour of it costs"
    )
    gitops: GitOps | None = Field(None, description="where each step of a release is committed; by default nowhere")
    control_room: ControlRoom = Field(ControlRoom(), description="the page of `slipway ui`")
    store: StoreConfig | None = Field(
        None, description="keeps what builds make for machines that come and go; by default the state folder alone"
    )
    notifications: Notifications = Field(default_factory=dict, description="who is told of what, by a name of yours")

    @model_validator(mode="after")
    def _a_gateway_under_a_controller(self) -> Self:
        if self.gateway.table is not None:
            raise ValueError(
                "gateway.table is for a gateway without a controller, which is told here what to serve -> leave it out"
            )
        for name in ("port", "admin_port"):
            if getattr(self.gateway, name) == 0:
                raise ValueError(f"gateway.{name} is 0, which is any free port -> name one: it is looked for there")
        return self

    @model_validator(mode="after")
    def _nothing_is_said_in_vain(self) -> Self:
        """What others run is not set here; one setting of theirs is asked for: the highest rank that vLLM loads."""
        vllm, gateway, why = self.vllm.model_fields_set, self.gateway.model_fields_set, ""
        if isinstance(self.target, ExternalTarget):
            vllm = vllm - {"max_lora_rank"}
            why = (
                "others run this target's vLLM and gateways"
                " -> leave it out; vllm.max_lora_rank alone says what their vLLM was started with"
            )
        elif isinstance(self.target, DockerTarget):
            vllm, gateway = vllm & {"host", "port", "python"}, gateway & OF_ONE_MACHINE
            why = "inside a container that is settled -> leave it out; users reach gateway.host and gateway.port"
        vain = [f"vllm.{name}" for name in sorted(vllm)] + [f"gateway.{name}" for name in sorted(gateway)]
        if why and vain:
            raise ValueError(f"{', '.join(vain)} would change nothing: {why}")
        return self

    @model_validator(mode="after")
    def _a_ledger_that_outlives_the_machine(self) -> Self:
        if self.store is not None and self.ledger_url is None:
            raise ValueError(
                "a store is for machines that go away, and the ledger would go with them"
                " -> name ledger_url, e.g. postgresql://slipway@db/slipway"
            )
        return self

    @model_validator(mode="after")
    def _ports_for_all(self) -> Self:
        if isinstance(self.target, DockerTarget) and self.gateway.port + self.target.gateways > 65_536:
            last = self.gateway.port + self.target.gateways - 1
            raise ValueError(f"the last gateway's port would be {last} -> set a lower gateway.port")
        return self

    @model_validator(mode="after")
    def _no_place_of_this_machine_in_a_pod(self) -> Self:
        if not isinstance(self.target, KubernetesTarget):
            return self
        vain = [f"vllm.{name}" for name in ("host", "python") if name in self.vllm.model_fields_set]
        here = ("host", "admin_host", "table_state", "budget_state", "reuse_port")
        vain += [f"gateway.{name}" for name in here if name in self.gateway.model_fields_set]
        log = self.gateway.traffic_log
        if log is not None and log.folder is not None:
            vain.append("gateway.traffic_log.folder")
        if vain:
            raise ValueError(
                f"{', '.join(vain)} would say nothing in a pod, which has places of its own -> leave it out"
            )
        return self

    @model_validator(mode="after")
    def _pods_know_where_to_pull(self) -> Self:
        target = self.target
        pulls = isinstance(target, KubernetesTarget) and isinstance(target.adapters, PulledAdapters)
        if pulls and self.registry.repository is None:
            raise ValueError(
                "target.adapters.kind is pulled, and no registry is named -> registry.repository: HOST[:PORT]/PATH"
            )
        return self

    @model_validator(mode="after")
    def _a_port_each(self) -> Self:
        ports = [self.vllm.port, self.gateway.port, self.gateway.admin_port]
        if len(set(ports)) < len(ports):
            named = "vllm.port {}, gateway.port {}, gateway.admin_port {}".format(*ports)
            raise ValueError(f"two processes have the same port: {named} -> give each its own")
        return self
