"""The bundle: all that must be versioned together. Its digest is its identity; change one part and it is new."""

from typing import Any

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

from configs.canonical import digest_of, short
from configs.prompts import SystemPlace
from configs.strict import Strict

NEWER: dict[str, Any] = {"chat_template_kwargs": {}, "system_place": "system", "parent": None, "merged": None}


class SuiteScore(Strict):
    """An eval suite as the bundle remembers it."""

    version: str
    score: float | None
    low: float | None
    high: float | None
    n: int


class Adapter(Strict):
    """A LoRA as files: `digest` is over every file's name and content."""

    digest: str
    rank: int
    files: dict[str, str]  # name -> sha256 of its content


class Merged(Strict):
    """Base and adapter as one model, in files: `digest` is over every file's name and content."""

    digest: str
    files: dict[str, str]  # name -> sha256 of its content


def adapter_name(route: str, adapter_digest: str) -> str:
    """What vLLM calls an adapter. It carries the digest: a reused name would serve stale prefix-cache blocks."""
    return f"{route}-{short(adapter_digest)}"


class Bundle(Strict):
    """The manifest. Without an adapter it is the base model with its long prompt: what a quick rollback serves."""

    route: str
    base_model: str
    base_revision: str  # a hub commit, or the digest of the files
    adapter: Adapter | None
    dataset_version: str | None
    dataset_code: str | None  # digest of the code that read and filtered the rows
    training: dict[str, Any] | None  # the whole config, seed included
    system_prompt: str
    temperature: float
    max_tokens: int
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)  # vLLM is sent them with every request
    system_place: SystemPlace = "system"  # first_user: the base model's template has no system role
    evals: dict[str, SuiteScore] = Field(default_factory=dict)
    routing: dict[str, Any] = Field(default_factory=dict)  # the route's rules, e.g. its response contract
    parent: str | None = None  # digest of the bundle that this one is another form of
    merged: Merged | None = None  # then there is no adapter: it is in these weights

    @model_serializer(mode="wrap")
    def _without_newer_defaults(self, as_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What older bundles do not have is left out where it says nothing: their digests stay what they were."""
        written = as_dict(self)
        unsaid = {name for name, default in NEWER.items() if getattr(self, name) == default}
        return {name: value for name, value in written.items() if name not in unsaid}

    @property
    def digest(self) -> str:
        """`sha256:...` over the canonical JSON of everything above."""
        return digest_of(self.model_dump(mode="json"))

    @property
    def trained(self) -> Adapter | Merged | None:
        """What was trained, in whichever form; None: the base model."""
        return self.adapter or self.merged

    @property
    def continued_from(self) -> str | None:
        """Digest of the bundle whose adapter its training began with; None: it began with the base model."""
        return (self.training or {}).get("continue_from")

    @property
    def files(self) -> dict[str, str]:
        """Name -> sha256 of the files beside the manifest."""
        return self.trained.files if self.trained else {}

    @property
    def served_name(self) -> str:
        """What vLLM calls it."""
        return self.base_model if self.trained is None else adapter_name(self.route, self.trained.digest)

    @property
    def variant_name(self) -> str:
        """Its name in a routing table: two bundles may share an adapter, never a variant."""
        kind = "merged" if self.merged else "lora" if self.adapter else "base"
        return f"{kind}-{short(self.digest)}"
