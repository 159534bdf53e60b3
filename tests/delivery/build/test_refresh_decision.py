"""A refresh runs when there is something to build, says why in one paragraph, and does nothing otherwise."""

from hypothesis import given
from hypothesis import strategies as st

from delivery.build.refresh import decide_refresh

inputs_of = st.dictionaries(st.sampled_from(["rows", "training.yaml", "code"]), st.sampled_from("ab"), min_size=1)


@given(inputs_of, st.none() | inputs_of, st.integers(0, 9), st.none() | st.integers(1, 9), st.sampled_from(["", "ann"]))
def test_it_runs_exactly_when_something_changed_enough_was_approved_or_a_person_asks(
    inputs: dict[str, str], before: dict[str, str] | None, approved: int, at: int | None, asked_by: str
) -> None:
    found = decide_refresh(inputs, before, approved, at, asked_by)
    filled = at is not None and approved >= at
    assert found.runs == (inputs != before or filled or bool(asked_by))
    assert found.reason.startswith("The refresh runs: " if found.runs else "The refresh does nothing: ")
    assert found.reason.endswith(".")
    assert ("review.refresh_at is" in found.reason) == filled


def test_it_names_what_changed_and_what_is_still_missing() -> None:
    before = {"rows": "a", "training.yaml": "a"}
    assert decide_refresh(before | {"rows": "b"}, before, 0, None).reason == (
        "The refresh runs: changed since the last refresh: rows."
    )
    assert decide_refresh(before, before, 12, 50).reason == (
        "The refresh does nothing: since the last one nothing has changed in rows, training.yaml. "
        "12 items were approved that no dataset version has read yet; 50 of them make it run (review.refresh_at)."
    )
    assert decide_refresh(before, before, 50, 50).reason == (
        "The refresh runs: 50 items were approved that no dataset version has read yet (review.refresh_at is 50)."
    )
