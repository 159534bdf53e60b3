"""Where vLLM and the gateway run, and where the ledger is."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from configs.strict import Strict
from configs.traffic_log import TrafficLog


class VllmConfig(Strict):
    """The local vLLM process, in an environment of its own."""

    host: str = "127.0.0.1"
    port: int = Field(8100, ge=1, le=65535)
    python: Path = Field(Path(".venv-vllm/bin/python"), description="the interpreter that has vLLM")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    cpu_kv_cache_gib: int = Field(1, ge=1, description="CPU builds only")
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


class GatewayConfig(Strict):
    """The gateway process: one listener for users, one for the controller."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(8001, ge=1, le=65535)
    workers: int = Field(1, ge=1, description="processes that share the port as one gateway: one for every core")
    connect_timeout_s: float = Field(2.0, gt=0)
    first_byte_timeout_s: float = Field(60.0, gt=0)
    idle_timeout_s: float = Field(60.0, gt=0, description="between two chunks of a stream")
    answer_timeout_s: float = Field(300.0, gt=0, description="plain requests: to the whole answer")
    mirror_queue: int = Field(64, ge=1, description="mirrored requests waiting; more are dropped and counted")
    mirror_at_once: int = Field(64, ge=1, description="mirrored requests under way; others wait")
    records_kept: int = Field(100_000, ge=1000)
    api_keys: Path | None = Field(None, description="let in only the keys of this file; by default whoever can ask")
    traffic_log: TrafficLog | None = Field(None, description="sampled requests as parquet files; none by default")


class Environment(Strict):
    """One place where releases happen. Secrets (tokens) come from the environment, never from here."""

    name: str = Field("local", pattern=r"^[a-z0-9][a-z0-9-]*$")
    ledger_url: str | None = Field(None, description="SQLAlchemy URL; by default SQLite below the state folder")
    vllm: VllmConfig = VllmConfig()
    gateway: GatewayConfig = GatewayConfig()

    @model_validator(mode="after")
    def _a_port_each(self) -> Self:
        ports = [self.vllm.port, self.gateway.port, self.gateway.admin_port]
        if len(set(ports)) < len(ports):
            named = "vllm.port {}, gateway.port {}, gateway.admin_port {}".format(*ports)
            raise ValueError(f"two processes have the same port: {named} -> give each its own")
        return self
