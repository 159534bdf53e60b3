"""A value with its interval: what every figure of an evaluation is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value with its two-sided interval; n is how many values, or pairs, it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"
