"""A recorded decision follows from what was recorded with it, and a changed record is found out."""

import json
from typing import Any

import pytest
from rollout_world import World

from configs.errors import SlipwayError
from delivery.checks.explain import explain
from delivery.release.state import Decision


def row_of(decision: Decision) -> dict[str, Any]:
    """As the ledger keeps it: through JSON."""
    row = {
        "id": 1,
        "release_id": "r1",
        "at": 5.0,
        "who": "controller-1",
        "phase": decision.state.phase,
        "stage_index": decision.state.stage_index,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "results": [result.model_dump(mode="json") for result in decision.results],
        "counts": {
            "candidate": {"requests": 5, "errors": 5},
            "facts": decision.facts.model_dump(mode="json") if decision.facts else None,
        },
        "actions": [action.model_dump(mode="json") for action in decision.actions],
    }
    return json.loads(json.dumps(row))


def failing() -> dict[str, Any]:
    world = World()
    world.until_stage(1)
    world.both_serve(7, ok=False)
    return row_of(world.tick())


def test_every_decision_of_a_release_follows_from_its_record() -> None:
    world, judged = World(), 0
    for _ in range(30):
        world.both_serve(9)
        row = row_of(world.tick())
        found = explain(row, 1, 1)
        assert found.differences == ()
        judged += found.again is not None
    assert judged > 3


def test_a_rollback_is_explained_by_its_values() -> None:
    found = explain(failing(), 3, 9)
    assert found.again is not None
    assert (found.verdict, found.again.verdict, found.again.blame) == ("fail", "fail", "rollback")
    assert found.again.e_value >= 20
    assert (found.tick, found.who, found.differences) == (3, "controller-1", ())


def test_a_record_that_was_changed_is_found_out() -> None:
    row = failing()
    row["results"][0]["worse"]["wealth"] = [0.0] * 5
    said = explain(row, 1, 1).differences
    assert any(text.startswith("verdict fail, now") for text in said)
    assert any("e_worse" in text for text in said)


def test_a_tick_without_a_judgement_says_so() -> None:
    assert explain(row_of(World().tick()), 1, 1).again is None


def test_a_decision_of_another_version_is_not_guessed_at() -> None:
    row = failing()
    row["results"][0].pop("worse")
    with pytest.raises(SlipwayError, match="another version of Slipway"):
        explain(row, 1, 1)
