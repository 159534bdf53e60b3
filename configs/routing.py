"""The routing table: everything that the gateway knows. It never learns what a release is."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from configs.contract import Contract
from configs.prompts import SystemPlace
from configs.strict import Strict
from configs.urls import BaseUrl

FULL_BP = 10_000  # basis points: 10,000 = all requests
EndpointName = Literal["chat", "responses", "completions", "embeddings"]
HeaderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
OWN_WORDS = {  # of a request, which a variant says elsewhere or cannot say
    "temperature": "say it as the variant's `temperature`",
    "max_tokens": "say it as the variant's `max_tokens`",
    "max_completion_tokens": "say it as the variant's `max_tokens`",
    "max_output_tokens": "say it as the variant's `max_tokens`",
    "instructions": "say it as the variant's `system_prompt`",
    **dict.fromkeys(
        ("model", "messages", "prompt", "input", "stream", "stream_options", "n", "user", "safety_identifier"),
        "it is the client's, or the gateway's own",
    ),
}


class Variant(Strict):
    """One bundle as served: a model name at some upstreams, with the prompt put in front."""

    model: str = Field(description="what vLLM calls it: the base model, or an adapter's name with its digest")
    upstreams: tuple[BaseUrl, ...] = Field(
        min_length=1, description="base URLs of vLLM replicas, e.g. http://127.0.0.1:8100"
    )
    bundle: str = Field("", description="the bundle's digest; only reported, never interpreted")
    system_prompt: str | None = None
    system_place: SystemPlace = Field(
        "system", description="first_user: the prompt stands in the user's first turn, for templates without the role"
    )
    temperature: float | None = Field(None, ge=0, le=2, description="used when the request has none")
    max_tokens: int | None = Field(None, ge=1, description="used when the request has none")
    parameters: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="more that the model is sent where the request has none, e.g. {chat_template_kwargs: {...}}",
    )

    @field_validator("parameters")
    @classmethod
    def _not_said_elsewhere(cls, parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(parameters.keys() & OWN_WORDS.keys()):
            raise ValueError(f"{taken[0]!r} cannot stand among a variant's parameters -> {OWN_WORDS[taken[0]]}")
        return parameters


class Candidate(Strict):
    """A second variant with a leased share of the users, or of mirrored requests."""

    variant: str
    share_bp: int = Field(0, ge=0, le=FULL_BP, description="users in buckets [0, share_bp)")
    mirror_bp: int = Field(0, ge=0, le=FULL_BP, description="share of stable's requests copied to the candidate")
    capture_bp: int = Field(
        0, ge=0, le=FULL_BP, description="of the copied requests: those whose texts are kept for GET /admin/pairs"
    )


class Holdback(Strict):
    """A small share of users who stay on the previous variant after a commit, for comparison."""

    variant: str
    share_bp: int = Field(ge=0, le=FULL_BP, description="users in buckets [10000 - share_bp, 10000)")


class Policy(Strict):
    """What the clients of a route may ask for, and override. A route allows what it wants; this is what is safe."""

    endpoints: tuple[EndpointName, ...] = Field(
        ("chat", "responses"),
        min_length=1,
        description="a prompt for /v1/completions goes past the variant's system prompt",
    )
    system_messages: Literal["replace", "append", "refuse"] = Field(
        "replace", description="the client's, where the variant has its own prompt: left out, put behind it, or 400"
    )
    refused_parameters: tuple[str, ...] = Field((), description="e.g. temperature: the variant's own always holds")
    allowed_parameters: tuple[str, ...] = Field(
        (), description="more than OpenAI's and the usual ones, e.g. chat_template_kwargs: passed on as they come"
    )
    max_tokens: int | None = Field(
        4096, ge=1, description="of an answer: more is refused; also sent where nobody names a limit. null: any"
    )
    max_choices: int | None = Field(
        8, ge=1, description="answers to one request (`n` times prompts); more are refused. null: any"
    )
    guided_decoding: Literal["none", "json", "any"] = Field(
        "json", description="json: JSON Schemas without patterns; any: grammars and regular expressions of clients too"
    )
    media: Literal["none", "inline", "any"] = Field(
        "inline", description="inline: data: URLs only; any: the model's server fetches what clients name"
    )
    builtin_tools: tuple[str, ...] = Field(
        (), description="of /v1/responses that the model's server itself calls for clients, e.g. code_interpreter"
    )
    user_headers: tuple[HeaderName, ...] = Field(
        ("x-slipway-user",), description="that name the user; the first that is there counts"
    )
    user_fields: tuple[str, ...] = Field(
        ("user", "safety_identifier"), description="of the body that name the user otherwise, e.g. metadata.user_id"
    )
    show_variant: bool = Field(False, description="tells users in x-slipway-variant which variant has answered")


class Trip(Strict):
    """When a variant that fails outright loses its users at the gateway itself, within the route's epoch."""

    failures: int = Field(5, ge=1, description="in a row, served and mirrored alike")
    users: int = Field(
        2, ge=1, le=100, description="so many different ones among them: one user's bad luck trips nothing"
    )


class Experiment(Strict):
    """An A/B comparison among the users of stable, which is its control: a fixed share of them gets each arm."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="another name deals the users anew")
    arms: dict[str, int] = Field(min_length=1, description="share_bp by variant; whoever is left is the control")


class Route(Strict):
    """One model name that clients ask for."""

    salt: str = Field(min_length=1, description="key of the hash that puts users into buckets")
    epoch: str = Field("", description="label on every record of a request that starts under this table")
    variants: dict[str, Variant] = Field(min_length=1)
    stable: str
    candidate: Candidate | None = None
    holdback: Holdback | None = None
    experiment: Experiment | None = None
    testers: dict[str, str] = Field(
        default_factory=dict,
        description="variant by user (x-slipway-user, `user`), whatever the shares say; with API keys by client/user",
    )
    policy: Policy = Policy()
    trip: Trip = Trip()
    contract: Contract | None = Field(None, description="every complete answer is judged by it, whoever gave it")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = {"stable": self.stable}
        if self.candidate:
            named["candidate"] = self.candidate.variant
        if self.holdback:
            named["holdback"] = self.holdback.variant
        for role, name in named.items():
            if name not in self.variants:
                raise ValueError(f"{role} names variant {name!r}, which is not in variants -> add it there")
        if len(set(named.values())) != len(named):
            raise ValueError(f"stable, candidate and holdback must be different variants: {named}")
        if self.candidate and self.holdback and self.candidate.share_bp + self.holdback.share_bp > FULL_BP:
            raise ValueError("candidate and holdback shares exceed 10000 basis points together")
        for user, name in self.testers.items():
            if name not in self.variants:
                raise ValueError(f"tester {user!r} gets variant {name!r}, which is not in variants -> add it there")
        if self.experiment:
            self._check_arms(self.experiment.arms, set(named.values()))
        return self

    def _check_arms(self, arms: dict[str, int], taken: set[str]) -> None:
        for name, share_bp in arms.items():
            if name not in self.variants:
                raise ValueError(f"the experiment names variant {name!r}, which is not in variants -> add it there")
            if name in taken:
                raise ValueError(
                    f"variant {name!r} cannot be an arm: it is stable (the control), candidate or holdback"
                )
            if share_bp < 1:
                raise ValueError(f"arm {name!r} has {share_bp} basis points -> give it some, or take it out")
        if sum(arms.values()) >= FULL_BP:
            raise ValueError("the arms leave no user for the control -> let them sum to less than 10000 basis points")


class RoutingTable(Strict):
    """What the gateway serves, until a higher revision replaces it as a whole."""

    revision: int = Field(ge=0, description="only ever grows; a lower one is refused")
    lease_s: float = Field(15.0, gt=0, le=3600, description="candidates' and holdbacks' shares end after this silence")
    routes: dict[str, Route] = Field(default_factory=dict)
    draining: tuple[BaseUrl, ...] = Field(
        (), description="upstreams that get no new requests and finish what they have"
    )

    @model_validator(mode="after")
    def _somebody_is_left(self) -> Self:
        used = {url for route in self.routes.values() for v in route.variants.values() for url in v.upstreams}
        for url in self.draining:
            if url not in used:
                raise ValueError(
                    f"draining names {url!r}, which is no variant's upstream -> use one of: {sorted(used)}"
                )
        for name, route in self.routes.items():
            for label, variant in route.variants.items():
                if set(variant.upstreams) <= set(self.draining):
                    where = f"routes.{name}.variants.{label}"
                    raise ValueError(f"every upstream of {where} is draining -> leave one, or give it another")
        return self
