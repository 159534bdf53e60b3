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
from configs.target import ExternalTarget, LocalTarget, OneTarget, TargetSettings, has_gateways, members_of
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
    def _somebody_has_gateways(self) -> Self:
        if not any(map(has_gateways, members_of(self.target).values())):
            cure = "name each gateway's admin listener" if isinstance(self.target, ExternalTarget) else "ask for one"
            raise ValueError(f"target has no gateway: nobody could send users to vLLM -> target.gateways: {cure}")
        return self

    @model_validator(mode="after")
    def _nothing_is_said_in_vain(self) -> Self:
        """Of several members one that heeds a setting is enough."""
        vain = [self._in_vain(member) for member in members_of(self.target).values()]
        names = set.intersection(*(set(ignored) for ignored, _ in vain))
        if names:
            why = "; ".join(dict.fromkeys(why for _, why in vain))
            raise ValueError(f"{', '.join(sorted(names, key=_vllm_first))} {why}")
        return self

    def heeded_by(self, member: OneTarget) -> "Environment":
        """The environment as this member of its target has it: without what only others heed."""
        ignored, _ = self._in_vain(member)
        vllm, gateway = (
            {name: field.get_default() for name, field in part.model_fields.items() if f"{of}.{name}" in ignored}
            for of, part in (("vllm", VllmConfig), ("gateway", GatewayConfig))
        )
        return self.model_copy(
            update={
                "target": member,
                "vllm": self.vllm.model_copy(update=vllm),
                "gateway": self.gateway.model_copy(update=gateway),
            }
        )

    def _in_vain(self, target: OneTarget) -> tuple[list[str], str]:
        """What is said and changes nothing there, and why."""
        vllm, gateway = self.vllm.model_fields_set, self.gateway.model_fields_set
        extra, why = list[str](), ""
        if isinstance(target, ExternalTarget):
            vllm = vllm - {"max_lora_rank"}  # the one setting of theirs that is asked for
            why = (
                "would change nothing: others run this target's vLLM and gateways"
                " -> leave it out; vllm.max_lora_rank alone says what their vLLM was started with"
            )
        elif isinstance(target, DockerTarget):
            vllm, gateway = vllm & {"host", "port", "python"}, gateway & OF_ONE_MACHINE
            why = (
                "would change nothing: inside a container that is settled"
                " -> leave it out; users reach gateway.host and gateway.port"
            )
        elif isinstance(target, KubernetesTarget):
            vllm, gateway = vllm & {"host", "python"}, gateway & (OF_ONE_MACHINE - {"admin_port"} | {"host"})
            log = self.gateway.traffic_log
            extra = ["gateway.traffic_log.folder"] if log is not None and log.folder is not None else []
            why = "would say nothing in a pod, which has places of its own -> leave it out"
        else:
            vllm = gateway = set()
        return [*(f"vllm.{name}" for name in vllm), *(f"gateway.{name}" for name in gateway), *extra], why

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
    def _pods_know_where_to_pull(self) -> Self:
        pods = [member for member in members_of(self.target).values() if isinstance(member, KubernetesTarget)]
        pulls = any(isinstance(member.adapters, PulledAdapters) for member in pods)
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


def _vllm_first(name: str) -> tuple[bool, str]:
    return not name.startswith("vllm."), name
