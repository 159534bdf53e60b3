"""What the agent beside a vLLM is told: the registry that it pulls from, and whose signatures count there."""

from typing import Self

from pydantic import model_validator

from configs.registry import RegistryConfig, Signatures
from configs.strict import Strict


class AgentConfig(Strict):
    """Keys and certificates are written out here: beside vLLM there is no other file of the project."""

    registry: RegistryConfig
    signatures: Signatures = Signatures()

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        if self.registry.repository is None:
            raise ValueError("an agent that pulls needs to know from where -> registry.repository: HOST/PATH")
        return self
