"""The settings that every configuration model shares: unknown keys are errors, values never change."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, refuses unknown keys, and refuses NaN and infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
