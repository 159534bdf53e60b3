"""A usage is told in words, and each limit that it reaches is named."""

import pytest
from pydantic import ValidationError

from configs.training_place import TrainingBudget, TrainingPlace
from delivery.build.budget import TrainingUsage, over_budget

USAGE = TrainingUsage(tokens=36_000, seconds=1800, peak_bytes=3 * 2**30)


def test_without_limits_nothing_is_reached_and_without_a_rate_there_is_no_cost():
    assert over_budget(USAGE, TrainingPlace()) == []
    assert USAGE.cost(TrainingPlace()) is None
    assert USAGE.render(TrainingPlace()) == "36,000 tokens in 1,800 s, 20 tokens/s, 3.0 GiB at the peak"


def test_money_is_time_by_the_rate():
    place = TrainingPlace(cost_per_hour=2.5, currency="USD")
    assert USAGE.cost(place) == 1.25
    assert USAGE.render(place).endswith("3.0 GiB at the peak, 1.25 USD")


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"tokens": 36_000}, "36,000 tokens, and budget.tokens is 36,000"),
        ({"hours": 0.5}, "0.50 hours, and budget.hours is 0.5"),
        ({"memory_gib": 2.5}, "3.0 GiB, and budget.memory_gib is 2.5"),
        ({"cost": 1}, "1.25 EUR, and budget.cost is 1"),
    ],
)
def test_each_limit_counts_from_its_own_value_on(budget, said):
    assert over_budget(USAGE, TrainingPlace(cost_per_hour=2.5, budget=TrainingBudget(**budget))) == [said]
    higher = {name: value * 2 for name, value in budget.items()}
    assert over_budget(USAGE, TrainingPlace(cost_per_hour=2.5, budget=TrainingBudget(**higher))) == []


def test_money_without_a_rate_is_refused():
    with pytest.raises(ValidationError, match="name cost_per_hour"):
        TrainingPlace(budget=TrainingBudget(cost=5))
