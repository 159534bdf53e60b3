"""Where vLLM and the gateways run: as local processes, containers, pods of a cluster, where others run them, or at
several of these at once."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from configs.docker import DockerTarget
from configs.kubernetes import KubernetesTarget
from configs.strict import Strict
from configs.urls import BaseUrl

MemberName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


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
        description="of each gateway's admin listener, e.g. http://10.0.1.1:8001; [] where another member of a combined"
        " target has them"
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


OneTarget = LocalTarget | ExternalTarget | DockerTarget | KubernetesTarget


class CombinedTarget(Strict):
    """Several targets behind one route: a release reaches the replicas of all, and all gateways get the same table.

    Every gateway sends users to every replica, so it has to reach them all.
    """

    kind: Literal["combined"]
    members: dict[MemberName, Annotated[OneTarget, Field(discriminator="kind")]] = Field(
        min_length=2, description="by a name of yours; builds evaluate on the first that has a vLLM for that"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        problems = [*self._told_apart(), *self._gateways_reach_everyone()]
        if problems:
            wrong, cures = ("; ".join(parts) for parts in zip(*problems, strict=True))
            raise ValueError(f"{wrong} -> {cures}")
        return self

    def _told_apart(self) -> Iterator[tuple[str, str]]:
        """What is wrong, and the cure."""
        for kind in ("local", "docker", "kubernetes"):
            names = [name for name, member in self.members.items() if member.kind == kind]
            if len(names) > 1:
                wrong = f"{', '.join(names)} are all {kind}, and would be started under the same names"
                yield wrong, f"keep one {kind} member, or give the others environments of their own"
        external = {name: member for name, member in self.members.items() if isinstance(member, ExternalTarget)}
        everything = [url for member in external.values() for url in (*member.replicas, *member.gateways)]
        for url in sorted({url for url in everything if everything.count(url) > 1}):
            names = [name for name, member in external.items() if url in (*member.replicas, *member.gateways)]
            yield f"{url} is a replica or gateway of {' and of '.join(names)}", "name it in one member"

    def _gateways_reach_everyone(self) -> Iterator[tuple[str, str]]:
        """What is wrong, and the cure."""
        if not any(has_gateways(member) for member in self.members.values()):
            yield "no member has a gateway", "give one of them gateways"
        is_local = any(isinstance(member, LocalTarget) for member in self.members.values())
        for name, member in self.members.items():
            if isinstance(member, DockerTarget) and member.gateways:
                wrong = f"the gateways of {name} are in a network without a way out, and reach no other member"
                yield wrong, f"set members.{name}.gateways: 0, and let another member have them"
            if isinstance(member, KubernetesTarget) and member.gateways.replicas and is_local:
                wrong = f"the gateways of {name} are pods, and do not reach a vLLM on this machine"
                yield wrong, f"set members.{name}.gateways.replicas: 0, the local member has one"


TargetSettings = Annotated[OneTarget | CombinedTarget, Field(discriminator="kind")]


def has_gateways(target: OneTarget) -> bool:
    """Whether users could be served there by a gateway of its own."""
    if isinstance(target, KubernetesTarget):
        return target.gateways.replicas > 0
    return isinstance(target, LocalTarget) or bool(target.gateways)


def members_of(target: OneTarget | CombinedTarget) -> dict[str, OneTarget]:
    """By name; a target that is one has the empty name."""
    return dict(target.members) if isinstance(target, CombinedTarget) else {"": target}
