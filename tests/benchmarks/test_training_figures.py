"""The benchmark of training says in three lines how both did, and whether they learned the same."""

import pytest

from benchmarks.training.__main__ import render


@pytest.mark.parametrize(("same", "word"), [(True, "the same loss"), (False, "ANOTHER LOSS")])
def test_both_trainings_and_their_ratio_are_shown(same, word):
    figures = {
        "bare": {"tokens_per_s": 228.4, "peak_bytes": 4.7 * 2**30},
        "ours": {"tokens_per_s": 530.0, "peak_bytes": 2.7 * 2**30},
        "mean_loss": {"bare": 1.2, "ours": 1.201},
        "ratio": 2.32,
        "same_loss": same,
        "estimated_bytes": 2.5 * 2**30,
    }
    bare, ours, last = render(figures).splitlines()
    assert bare == "bare      228 tokens/s    4.7 GiB  mean loss 1.2000"
    assert ours == "ours      530 tokens/s    2.7 GiB  mean loss 1.2010"
    assert last == f"ours is 2.32 times as fast, {word}; 2.5 GiB were estimated"
