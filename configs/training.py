"""How an adapter is trained; every field is part of the bundle's identity."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from configs.strict import Strict

MethodName = Literal["sft", "dpo"]
"""Each is a module of tasks.training.methods."""

LATER: dict[str, Any] = {"continue_from": None, "processes": 1}
"""Settings that came later, with what a file means that does not have them: its digest stays what it was."""

TRAINS_ON: dict[MethodName, Literal["conversations", "preferences"]] = {"sft": "conversations", "dpo": "preferences"}


class LoraSettings(Strict):
    """peft's LoRA. What vLLM cannot serve (DoRA, bias, modules_to_save) has no field here."""

    rank: int = Field(16, ge=1, le=512)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    rslora: bool = False


class DpoSettings(Strict):
    """Direct preference optimisation (Rafailov et al. 2023)."""

    beta: float = Field(0.1, gt=0, description="how strongly the adapter is held near the base model")


class TrainingConfig(Strict):
    """One run of a TRL trainer on the training part of a dataset version."""

    method: MethodName = Field("sft", description="sft: on answers; dpo: on pairs of a chosen and a rejected answer")
    dpo: DpoSettings = DpoSettings()
    lora: LoraSettings = LoraSettings()
    epochs: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="stops earlier than `epochs` would")
    learning_rate: float = Field(5e-4, gt=0, lt=1)
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    batch_size: int = Field(8, ge=1, description="sequences per optimizer step and device")
    gradient_accumulation_steps: int = Field(1, ge=1)
    processes: int = Field(1, ge=1, le=64, description="that train side by side, each with `batch_size` rows of a step")
    max_sequence_tokens: int = Field(512, ge=16, description="a longer row is an error, never cut")
    weight_decay: float = Field(0.0, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    checkpoint_every_steps: int = Field(25, ge=1)
    seed: int = Field(17, ge=0)
    continue_from: str | None = Field(
        None,
        pattern=r"^(live|sha256:[0-9a-f]{64})$",
        description="live, or a bundle's digest: training begins with that adapter; by default with the base model",
    )

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, as_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = as_dict(self)
        return {name: value for name, value in written.items() if name not in LATER or value != LATER[name]}
