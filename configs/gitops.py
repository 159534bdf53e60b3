"""What the chart is told: the values file of one environment, in the words of environment.yaml where it has them.

`charts/slipway/values.schema.json` is made from `ChartValues`; a test holds the two together.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from configs.agent import AgentConfig
from configs.contract import Contract
from configs.kubernetes import (
    BaseModelSource,
    Cidr,
    GatewayPods,
    Images,
    PulledAdapters,
    ResourceName,
    SentAdapters,
    SharedAdapters,
    VllmPods,
)
from configs.prompts import SystemPlace
from configs.routing import Policy
from configs.strict import Strict
from configs.urls import BaseUrl

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Mode = Literal["shadow", "canary"]


class ChartVllm(VllmPods):
    """vLLM's pods, and the words that its server is started with."""

    port: int = Field(8100, ge=1, le=65535)
    ready_within_s: float = Field(300.0, gt=0, description="a pod that takes longer is started anew")
    arguments: tuple[str, ...] = Field((), description="of vLLM's API server, whole: the model is among them")
    variables: dict[str, str] = Field(default_factory=dict, description="of its process; the key comes from a Secret")


class ChartGateways(GatewayPods):
    """The gateways' pods."""

    replicas: int = Field(2, ge=1)
    has_api_keys: bool = Field(False, description="there is a Secret slipway-NAME-api-keys")
    settings: dict[str, JsonValue] = Field(
        {"port": 8000, "admin_port": 8001},
        description="of the gateway, as environment.yaml's `gateway` has them",
        json_schema_extra={"required": ["port", "admin_port"]},
    )


class ChartAgent(Strict):
    """What each agent that pulls reads. Nothing in it is a secret: keys and certificates are public ones."""

    settings: AgentConfig = Field(description="as the agent's file has them; registry.repository names where from")
    authority: str = Field("", description="PEM of the registry's private authority, which settings name as a file")
    registry_port: int = Field(443, ge=1, le=65535, description="where the network policy lets agents ask")


class ChartAdapter(Strict):
    """One adapter that every vLLM loads when it starts, from the folder of the shared volume with its digest."""

    digest: Digest
    bundle: Digest | None = None


class ChartVariant(Strict):
    """One bundle as served."""

    model: str = Field(min_length=1, description="a name among `adapters`, or the base model's")
    bundle: str = Field("", description="the bundle's digest; only reported")
    system_prompt: str | None = None
    system_place: SystemPlace = "system"
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class ChartCandidate(Strict):
    """A second variant: users get it (canary), or it gets copies of their requests (shadow)."""

    variant: str
    mode: Mode
    share_percent: float = Field(gt=0, le=100)


class ChartHoldback(Strict):
    """Users who stay on another variant while `default` is watched."""

    variant: str
    share_percent: float = Field(gt=0, le=100)


class ChartRoute(Strict):
    """One model name that users ask for. `default: null` serves `base`, the base model with its long prompt."""

    salt: str = Field(min_length=1, description="another one deals the users anew")
    epoch: str = ""
    base_model: str = Field(min_length=1, description="what vLLM calls the base model")
    base: str = Field(description="the variant that a quick rollback serves")
    default: str | None = Field(None, description="the variant that users get; null: `base`")
    candidate: ChartCandidate | None = None
    holdback: ChartHoldback | None = None
    variants: dict[str, ChartVariant] = Field(min_length=1)
    policy: Policy | None = None
    contract: Contract | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        roles = {"base": self.base, "default": self.default or self.base}
        if self.candidate is not None:
            roles["candidate"] = self.candidate.variant
        if self.holdback is not None:
            roles["holdback"] = self.holdback.variant
        for role, name in roles.items():
            if name not in self.variants:
                raise ValueError(f"{role} names variant {name!r}, which is not in variants -> add it there")
        if self.candidate is not None and self.candidate.variant == roles["default"]:
            raise ValueError(f"{self.candidate.variant!r} is both default and candidate -> leave candidate out")
        return self


class ChartValues(Strict):
    """All that one environment's chart is told."""

    name: str = Field("production", pattern=r"^[a-z0-9][a-z0-9-]*$", description="the environment's")
    routing: Literal["controller", "values"] = Field(
        "controller", description="who tells gateways what to serve: Slipway's controller, or `routes` here"
    )
    images: Images
    base_model: BaseModelSource
    adapter_files: SentAdapters | PulledAdapters | SharedAdapters = Field(SentAdapters(), discriminator="kind")
    agent: ChartAgent | None = Field(None, description="of adapter_files.kind pulled, and of no other")
    controllers: tuple[Cidr, ...] = ()
    start_timeout_s: float = Field(600.0, gt=0)
    vllm: ChartVllm = ChartVllm()
    gateways: ChartGateways = ChartGateways()
    upstreams: tuple[BaseUrl, ...] = Field((), description="where gateways find vLLM; by default its Service")
    adapters: dict[str, ChartAdapter] = Field(default_factory=dict, description="by the name that vLLM gives it")
    routes: dict[ResourceName, ChartRoute] = Field(
        default_factory=dict, description="by the model name that users ask for"
    )

    @model_validator(mode="after")
    def _somebody_brings_adapters(self) -> Self:
        pulls = isinstance(self.adapter_files, PulledAdapters)
        if pulls != (self.agent is not None):
            what = "agent is missing" if pulls else "agent is said, and nobody pulls"
            raise ValueError(f"adapter_files.kind is {self.adapter_files.kind}, and {what} -> they go together")
        is_there = isinstance(self.adapter_files, SharedAdapters)
        if isinstance(self.adapter_files, PulledAdapters):
            is_there = bool(self.adapter_files.from_start)
        if self.routing == "values" and self.adapters and not is_there:
            raise ValueError(
                "routing: values has no controller that brings adapters -> adapter_files: {kind: shared, ...},"
                " or {kind: pulled, from_start: [...]}"
            )
        for name, route in self.routes.items():
            known = {route.base_model, *self.adapters}
            lost = sorted(v.model for v in route.variants.values() if v.model not in known)
            if lost:
                raise ValueError(f"routes.{name}: {', '.join(lost)} is not among adapters -> add it there")
        return self


class PromotionRules(Strict):
    """What this environment asks of a bundle that another one serves, before it is released here."""

    soak_s: float = Field(0.0, ge=0, description="how long it has been live there, in seconds")
    least_scores: dict[str, float] = Field(
        default_factory=dict, description="by eval suite, of the bundle: this environment's own gates"
    )


class GitOps(Strict):
    """The file in Git that says what a route serves. Each step of a release is a commit there before users see it."""

    repository: str = Field(min_length=1, description="as `git clone` takes it: ssh, https or file")
    branch: str = "main"
    file: str = Field(description="there, e.g. environments/production/release.yaml; Slipway alone writes it")
    promotion: PromotionRules = Field(PromotionRules(), description="of `slipway gitops promote`")

    @field_validator("repository")
    @classmethod
    def _without_a_password(cls, url: str) -> str:
        if url.startswith("-") or "::" in url:
            raise ValueError("this is no address of a repository -> use ssh, https or file")
        if re.match(r"https?://[^/@]*@", url):
            raise ValueError("the address names a user or a password -> leave it out: SLIPWAY_GIT_TOKEN holds a token")
        return url

    @field_validator("branch")
    @classmethod
    def _a_branch(cls, branch: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", branch) or ".." in branch:
            raise ValueError(f"{branch!r} is no branch's name")
        return branch

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or ".git" in path.parts or path.suffix not in (".yaml", ".yml"):
            raise ValueError(
                f"{file!r} is no YAML file inside the repository -> e.g. environments/production/release.yaml"
            )
        return file


def values_schema() -> dict[str, Any]:
    """The chart's values.schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ChartValues.model_json_schema()}
