"""Requests that change are told with their evidence; requests that do not change are rarely called drift."""

import random

from hypothesis import given
from hypothesis import strategies as st

from configs.refresh import Drift
from delivery.build.drift import OnePerUser, drift_of

WORDS = [f"word{number}" for number in range(300)]
WEIGHTS = [1 / (number + 1) for number in range(300)]


def asked(rng: random.Random, users: int, length: int = 12, words: list[str] = WORDS) -> list[str]:
    return [" ".join(rng.choices(words, WEIGHTS, k=max(1, round(rng.gauss(length, 4))))) for _ in range(users)]


def test_without_drift_it_is_called_so_in_no_more_looks_than_the_rate_says() -> None:
    rng, rules, looks = random.Random(3), Drift(false_alarm_rate=0.1, min_users=50), 300
    alarms = sum(drift_of(asked(rng, 60), asked(rng, 50), rules).drifted for _ in range(looks))
    assert alarms <= 43  # a rate of 0.1 gives more in fewer than 1 of 100 such simulations
    assert alarms >= 3  # and one that never alarms would not look at all


def test_longer_questions_and_other_words_are_told_apart_each_with_its_evidence() -> None:
    rng, rules = random.Random(4), Drift()
    before = asked(rng, 300)
    longer = drift_of(before, asked(rng, 250, length=16), rules)
    assert longer.drifted
    assert "questions have other lengths (median 12 -> 16 words; Kolmogorov-Smirnov distance " in longer.told
    other = drift_of(before, asked(rng, 250, words=["invoice", *WORDS[1:]]), rules)
    assert other.drifted
    assert other.length_p is not None
    assert other.length_p > 0.005
    assert "users use other words ('" in other.told
    assert "'invoice' 0% -> " in other.told
    assert other.told.endswith("by chance in at most 1.0% of looks")


def test_too_few_users_show_nothing_and_that_is_said() -> None:
    found = drift_of(["short"] * 400, ["quite another and much longer question"] * 199, Drift())
    assert not found.drifted
    assert "400 before the last refresh and 199 since, of 200 that are needed" in found.told


def test_questions_without_a_common_word_do_not_break_it() -> None:
    assert not drift_of(["?"] * 50, ["?"] * 50, Drift(min_users=50)).drifted


@given(st.permutations([(f"u{n % 7}", f"r{n}") for n in range(40)]), st.integers(1, 9))
def test_each_user_counts_once_and_the_order_of_the_log_does_not_matter(
    rows: list[tuple[str, str]], at_most: int
) -> None:
    found, again = OnePerUser(at_most), OnePerUser(at_most)
    for user, request in rows:
        found.add(user, request, f"{user} {request}")
    for user, request in sorted(rows):
        again.add(user, request, f"{user} {request}")
    assert found.texts() == again.texts()
    users = [text.split()[0] for text in found.texts()]
    assert len(set(users)) == len(users) == min(7, at_most)
