"""What a training may cost where it runs, and what an hour there costs. None of it changes the adapter."""

from typing import Self

from pydantic import Field, model_validator

from configs.strict import Strict


class TrainingBudget(Strict):
    """A training that reaches one of these is stopped, with its checkpoint kept; None: no limit."""

    tokens: int | None = Field(None, ge=1, description="that go through the model, prompts and every epoch included")
    hours: float | None = Field(None, gt=0)
    memory_gib: float | None = Field(
        None, gt=0, description="at the peak: of the GPU where one trains, else of the process"
    )
    cost: float | None = Field(None, gt=0, description="in `currency`, by `cost_per_hour`")


class TrainingPlace(Strict):
    """The machine that trains."""

    budget: TrainingBudget = TrainingBudget()
    cost_per_hour: float | None = Field(None, ge=0)
    currency: str = Field("EUR", min_length=1, max_length=8)

    @model_validator(mode="after")
    def _a_rate_for_money(self) -> Self:
        if self.budget.cost is not None and self.cost_per_hour is None:
            raise ValueError("budget.cost says nothing without a rate -> name cost_per_hour")
        return self
