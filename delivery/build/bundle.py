"""The bundle: all that must be versioned together. Its digest is its identity; change one part and it is new."""

from typing import Any

from pydantic import Field

from configs.canonical import digest_of, short
from configs.strict import Strict


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
    evals: dict[str, SuiteScore] = Field(default_factory=dict)
    routing: dict[str, Any] = Field(default_factory=dict)  # the route's rules, e.g. its response contract

    @property
    def digest(self) -> str:
        """`sha256:...` over the canonical JSON of everything above."""
        return digest_of(self.model_dump(mode="json"))

    @property
    def served_name(self) -> str:
        """What vLLM calls it."""
        return self.base_model if self.adapter is None else adapter_name(self.route, self.adapter.digest)

    @property
    def variant_name(self) -> str:
        """Its name in a routing table: two bundles may share an adapter, never a variant."""
        return f"{'base' if self.adapter is None else 'lora'}-{short(self.digest)}"
