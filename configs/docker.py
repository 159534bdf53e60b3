"""What a Docker engine is asked to run for an environment: how many of which image, with how much of the machine."""

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from configs.strict import Strict

FIRST_REPLICA, FIRST_GATEWAY = 10, 100  # in the subnet; the engine itself takes the first address
PINNED = r"^([^@\s]+@)?sha256:[0-9a-f]{64}$"
TAGGED = r"^[^@\s]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$"
Image = Annotated[str, StringConstraints(pattern=f"{PINNED}|{TAGGED}")]


class DockerTarget(Strict):
    """vLLM replicas and gateways as containers of one Docker engine on this machine.

    Only the gateways' port for users is published, where `gateway.host` and `gateway.port` say: the next gateway takes
    the next port. Images are looked up once at `slipway up`; what runs is the ID that was found then.
    """

    kind: Literal["docker"]
    vllm_image: Image = Field(description="ID, name@sha256:..., or a tag that says its version; make images builds one")
    gateway_image: Image = Field(description="ID, name@sha256:..., or a tag that says its version")
    replicas: int = Field(1, ge=1, le=64, description="containers with vLLM")
    gateways: int = Field(
        1, ge=0, le=32, description="containers with a gateway; 0 where another member of a combined target has them"
    )
    subnet: IPv4Network = Field(
        IPv4Network("172.31.240.0/24"), description="of the environment's own network, which has no way out"
    )
    vllm_memory_gib: float = Field(8.0, gt=0, description="limit of each vLLM container")
    vllm_cpus: float | None = Field(None, gt=0, description="limit of each vLLM container; by default none")
    gateway_memory_gib: float = Field(1.0, gt=0, description="limit of each gateway container")
    gpus_per_replica: int = Field(0, ge=0, le=16, description="the first replica has GPU 0, ...; 0 is vLLM's CPU build")
    user: str | None = Field(
        None,
        pattern=r"^[1-9][0-9]*:[0-9]+$",
        description="UID:GID inside; by default whoever runs slipway, and 10001:10001 where that is root",
    )

    def replica_address(self, number: int) -> IPv4Address:
        """Of the vLLM with this number, from 0."""
        return self.subnet[FIRST_REPLICA + number]

    def gateway_address(self, number: int) -> IPv4Address:
        """Of the gateway with this number, from 0."""
        return self.subnet[FIRST_GATEWAY + number]

    @model_validator(mode="after")
    def _room_for_everyone(self) -> Self:
        if self.subnet.num_addresses < 256:
            raise ValueError(f"subnet {self.subnet} has {self.subnet.num_addresses} addresses -> give it a /24 or more")
        return self

    @model_validator(mode="after")
    def _no_moving_tag(self) -> Self:
        for name in ("vllm_image", "gateway_image"):
            if str(getattr(self, name)).endswith(":latest"):
                raise ValueError(f"{name} is a tag that moves -> name a version, or better the digest: name@sha256:...")
        return self
