"""Where vLLM and the gateways run: as local processes, containers, pods of a cluster, or where others run them."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from configs.docker import DockerTarget
from configs.kubernetes import KubernetesTarget
from configs.strict import Strict
from configs.urls import BaseUrl


class LocalTarget(Strict):
    """One vLLM and one gateway on this machine; `slipway up` starts both, as `vllm` and `gateway` say."""

    kind: Literal["local"] = "local"


class ExternalTarget(Strict):
    """Replicas and gateways that others start, restart and end. Slipway loads adapters and sets routing tables.

    vLLM needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora; a gateway is `python -m delivery.gateway`.
    """

    kind: Literal["external"]
    replicas: tuple[BaseUrl, ...] = Field(min_length=1, description="of each vLLM, e.g. http://10.0.0.1:8000")
    gateways: tuple[BaseUrl, ...] = Field(
        min_length=1, description="of each gateway's admin listener, e.g. http://10.0.1.1:8001"
    )
    adapters_on_replicas: PurePosixPath = Field(description="the folder of adapters as every replica sees it")
    adapters_here: Path | None = Field(
        None, description="the same folder as this machine sees it; by default `adapters` in the state folder"
    )

    @field_validator("adapters_on_replicas")
    @classmethod
    def _holds_on_their_machine(cls, path: PurePosixPath) -> PurePosixPath:
        if not path.is_absolute() or ".." in path.parts:
            raise ValueError("vLLM is told whole paths of its own machine -> e.g. /mnt/adapters")
        return path

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        everything = (*self.replicas, *self.gateways)
        twice = sorted({url for url in everything if everything.count(url) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice -> name each replica and each gateway once")
        return self


TargetSettings = Annotated[LocalTarget | ExternalTarget | DockerTarget | KubernetesTarget, Field(discriminator="kind")]
