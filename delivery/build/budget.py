"""What a training takes, by estimate or measured, beside what it may take."""

from pydantic import Field

from configs.strict import Strict
from configs.training_place import TrainingPlace


class TrainingUsage(Strict):
    """`seconds` are of training proper; without loading and saving where they are an estimate."""

    tokens: int = Field(ge=0)
    seconds: float = Field(ge=0)
    peak_bytes: int = Field(0, ge=0)  # 0: not known

    def cost(self, place: TrainingPlace) -> float | None:
        """In `place.currency`; None where nobody said what an hour costs."""
        return None if place.cost_per_hour is None else self.seconds / 3600 * place.cost_per_hour

    def render(self, place: TrainingPlace) -> str:
        """Tokens, time, speed, memory and money, as far as they are known."""
        parts = [f"{self.tokens:,} tokens in {self.seconds:,.0f} s"]
        parts += [f"{self.tokens / self.seconds:,.0f} tokens/s"] if self.seconds else []
        parts += [f"{self.peak_bytes / 2**30:.1f} GiB at the peak"] if self.peak_bytes else []
        cost = self.cost(place)
        return ", ".join(parts + ([f"{cost:.2f} {place.currency}"] if cost is not None else []))


def over_budget(usage: TrainingUsage, place: TrainingPlace) -> list[str]:
    """What of the budget a usage reaches, in words; empty: it stays below all limits."""
    budget, cost = place.budget, usage.cost(place)
    found = []
    if budget.tokens is not None and usage.tokens >= budget.tokens:
        found.append(f"{usage.tokens:,} tokens, and budget.tokens is {budget.tokens:,}")
    if budget.hours is not None and usage.seconds >= budget.hours * 3600:
        found.append(f"{usage.seconds / 3600:.2f} hours, and budget.hours is {budget.hours:g}")
    if budget.memory_gib is not None and usage.peak_bytes >= budget.memory_gib * 2**30:
        found.append(f"{usage.peak_bytes / 2**30:.1f} GiB, and budget.memory_gib is {budget.memory_gib:g}")
    if budget.cost is not None and cost is not None and cost >= budget.cost:
        found.append(f"{cost:.2f} {place.currency}, and budget.cost is {budget.cost:g}")
    return found
