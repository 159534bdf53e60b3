"""Macro-F1 and F1 by class: their values, and intervals that hold for few samples and for perfect ones."""

import random

import pytest

from evals.classes import f1, f1_difference
from evals.report import SampleScore


def samples(pairs: list[tuple[str, str]]) -> list[SampleScore]:
    return [
        SampleScore(id=str(n), score=float(wanted == said), expected=wanted, said=said)
        for n, (wanted, said) in enumerate(pairs)
    ]


PAIRS = [("a", "a")] * 6 + [("a", "b")] * 2 + [("b", "b")] * 3 + [("b", "a")] + [("c", "")] * 2 + [("c", "c")] * 2


def test_the_values_are_those_of_the_textbook() -> None:
    # a: 6 of 8 found, 7 said -> 12/15; b: 3 of 4, 5 said -> 6/9; c: 2 of 4, 2 said -> 4/6
    assert f1("f1:a", samples(PAIRS), 0.95).value == pytest.approx(12 / 15)
    assert f1("f1:b", samples(PAIRS), 0.95).value == pytest.approx(6 / 9)
    assert f1("macro_f1", samples(PAIRS), 0.95).value == pytest.approx((12 / 15 + 6 / 9 + 4 / 6) / 3)


def test_the_same_samples_have_the_same_interval() -> None:
    assert f1("macro_f1", samples(PAIRS), 0.95) == f1("macro_f1", samples(PAIRS), 0.95)


def test_few_perfect_samples_show_little_and_many_show_much() -> None:
    def low(n: int) -> float:
        return f1("macro_f1", samples([("a", "a"), ("b", "b")] * n), 0.95).low

    def gap(n: int) -> float:
        perfect = samples([("a", "a"), ("b", "b")] * n)
        return -f1_difference("macro_f1", perfect, perfect, 0.95).low

    assert low(5) < 0.9 < low(50) < low(500) < 1
    assert gap(5) > 0.1 > gap(50) > gap(500) > 0


def test_a_difference_is_paired_and_turns_its_sign() -> None:
    better, worse = samples([(w, w) for w, _ in PAIRS * 10]), samples(PAIRS * 10)
    found, back = f1_difference("macro_f1", better, worse, 0.95), f1_difference("macro_f1", worse, better, 0.95)
    assert found.low > 0
    assert back.high < 0
    assert found.value == pytest.approx(-back.value)


@pytest.mark.parametrize(("n", "accuracy", "disagree"), [(40, 0.95, 0.05), (60, 0.8, 0.2), (200, 0.9, 0.1)])
def test_the_interval_of_a_difference_covers_it_as_often_as_it_says(n: int, accuracy: float, disagree: float) -> None:
    """Two models that are equally good, but differ sample by sample: zero is the truth, and rarely left out."""
    rng = random.Random(7)
    misses = 0
    rounds = 200
    for _ in range(rounds):
        first, second = [], []
        for _ in range(n):
            wanted = rng.choice("aaab")
            other = "b" if wanted == "a" else "a"
            one = wanted if rng.random() < accuracy else other
            two = one if rng.random() > disagree else (wanted if rng.random() < accuracy else other)
            first.append((wanted, one))
            second.append((wanted, two))
        found = f1_difference("macro_f1", samples(first), samples(second), 0.95)
        misses += not found.low <= 0 <= found.high
    assert misses / rounds <= 0.08  # 5 % and what 200 rounds may add to it
