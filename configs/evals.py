"""Which suites judge a candidate, and what the gate asks of them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.strict import Strict


class SliceGate(Strict):
    """The slices of a suite by a field of its samples: none of them may be shown to be worse than production."""

    field: str = Field(min_length=1, description="of the samples' `fields`, or of the held-out rows'")
    max_drop: float = Field(0.0, ge=0, lt=1, description="a slice fails when it is shown to drop by more than this")


class Gate(Strict):
    """What one suite must show.

    A difference from production counts only when its interval shows it: few samples can show no small margin.
    """

    suite: str = Field(description="a suite's name, or of a suite of classes SUITE/macro_f1, SUITE/recall:CLASS")
    min_score: float | None = Field(None, ge=0, le=1, description="the candidate's score must reach this")
    max_score: float | None = Field(
        None, ge=0, le=1, description="the same where lower is better: the candidate's score must not exceed this"
    )
    max_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="non-inferiority margin: by how much the candidate may be worse than production, in pairs; where "
        "lower is better, by how much it may rise",
    )
    min_gain: float | None = Field(
        None, ge=0, le=1, description="superiority: the candidate must be better than production by more than this"
    )
    slices: tuple[SliceGate, ...] = Field((), description="beside the whole: each value of a field by itself")
    strict: bool = Field(
        False, description="the whole interval of the score, not the point, must keep min_score or max_score"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the two-sided intervals")
    when_blind: Literal["refuse", "allow"] = Field(
        "refuse",
        description="what becomes of a limit that so few samples could not show to be kept, by a candidate as good as "
        "production say: it is an error, or the values alone are compared",
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        limits = (self.min_score, self.max_score, self.max_drop, self.min_gain)
        if all(limit is None for limit in limits) and not self.slices:
            raise ValueError("a gate asks nothing -> give min_score, max_score, max_drop, min_gain or slices")
        return self


class Capability(Strict):
    """lm-eval tasks by name: shipped under evals/, or any that lm-eval knows when there is a network."""

    task: str
    metric: str = Field("acc", description="or, of a task with several filters, METRIC,FILTER")
    better: Literal["higher", "lower"] | None = Field(None, description="which way; by default as the task says")
    limit: int | None = Field(None, ge=1)


class EvalsConfig(Strict):
    """Suites by folder name in the project's evals/ or among those shipped, capability tasks, the gate over both."""

    behaviour: tuple[str, ...] = ()
    capability: tuple[Capability, ...] = ()
    concurrency: int = Field(8, ge=1)
    ablation: bool = Field(
        False, description="also ask the base model with the adapter's prompt: what training adds to the prompt alone"
    )
    noise_run: bool = Field(
        False,
        description="ask production a second time, in other batches: what the serving stack changes by itself widens "
        "the intervals of all differences",
    )
    gates: tuple[Gate, ...] = Field(min_length=1)

    @property
    def capability_suites(self) -> dict[str, Capability]:
        """By the name that reports and gates use: the task's, or `task/metric` where several metrics of it count."""
        tasks = [c.task for c in self.capability]
        return {c.task if tasks.count(c.task) == 1 else f"{c.task}/{c.metric}": c for c in self.capability}

    @model_validator(mode="after")
    def _gates_name_suites(self) -> Self:
        known = {*self.behaviour, *self.capability_suites}
        if len(known) < len(self.behaviour) + len(self.capability):
            raise ValueError("two suites have the same name -> list each suite, and each metric of a task, once")
        limits = {(c.task, c.limit) for c in self.capability}
        if len(limits) > len({c.task for c in self.capability}):
            raise ValueError("one task has two limits -> give all its metrics the same limit")
        for gate in self.gates:
            if gate.suite not in known and gate.suite.partition("/")[0] not in self.behaviour:
                raise ValueError(f"gate names suite {gate.suite!r}, which is not run -> one of {sorted(known)}")
            if gate.slices and gate.suite not in self.behaviour:
                raise ValueError(
                    f"gate {gate.suite!r} has slices, which only the samples of a behaviour suite have -> take them "
                    "out, or name the suite itself"
                )
        return self
