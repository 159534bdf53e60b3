"""What people are told of a decision follows from it and from the state before, and from nothing else."""

import pytest
from release_states import BASE, BEGUN, NEW, NOTE, at, decided

from configs.notifications import Notifications, PrefectEvents
from delivery.release.messages import letters, of_decision, rollback_key
from delivery.release.state import Alert, AwaitApproval, ReleaseState


@pytest.mark.parametrize("before", ["preparing", "stage", "watching", "live"])
def test_a_rollback_is_told_when_it_begins_from_wherever_with_who_and_why(before: str) -> None:
    (told,) = of_decision(at(before), decided(at("rolling_back", rollback=NOTE)))
    assert (told.kind, told.key, told.release_id, told.bundle) == ("rollback", "r1/rollback", "r1", NEW.digest)
    assert told.key == rollback_key("r1")
    assert "is taken back by slipway" in told.title
    assert "error_rate 0.4 is above 0.2" in told.text
    assert "slipway lift-quarantine" in told.text
    assert BASE.variant_name in told.text


def test_a_rollback_without_evidence_says_that_it_may_be_tried_again() -> None:
    note = NOTE.model_copy(update={"quarantine": False})
    (told,) = of_decision(at("stage"), decided(at("rolling_back", rollback=note)))
    assert "not quarantined" in told.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (at("rolling_back", rollback=NOTE), at("rolling_back", rollback=NOTE)),
        (at("rolling_back", rollback=NOTE), at("rolled_back", rollback=NOTE)),
        (at("stage"), at("stage", stage_index=1)),
        (at("watching"), at("live")),  # nobody's traffic has changed
        (at("refused"), at("refused")),
    ],
)
def test_what_goes_on_as_before_is_not_told_again(before: ReleaseState, after: ReleaseState) -> None:
    assert of_decision(before, decided(after)) == ()


def test_a_refusal_and_a_release_that_ended_well_are_told() -> None:
    (refused,) = of_decision(BEGUN, decided(at("refused", reason="the eval gate refused it")))
    assert (refused.kind, refused.key) == ("refusal", "r1/refusal")
    assert "the eval gate refused it" in refused.text
    (live,) = of_decision(at("stage"), decided(at("live")))
    assert live.kind == "live"


def test_alerts_and_approvals_are_told_each_with_a_key_of_its_own() -> None:
    state = at("stage", stage_index=1, attempt=2)
    asks = AwaitApproval(stage_index=1, text="canary passed")
    first = of_decision(at("stage"), decided(state, Alert(text="no records"), Alert(text="no judge"), asks))
    assert [one.kind for one in first] == ["alert", "alert", "approval"]
    assert len({one.key for one in first}) == 3
    assert "slipway approve" in first[2].text
    assert of_decision(at("stage"), decided(state, asks))[0].key == first[2].key
    later = state.model_copy(update={"clocks": state.clocks.model_copy(update={"last_tick_at": 160.0})})
    (again,) = of_decision(state, decided(later, Alert(text="no records")))
    assert again.key not in {one.key for one in first}, "an alert that is raised anew is told anew"


def test_each_receiver_gets_the_kinds_that_it_wants() -> None:
    receivers: Notifications = {
        "all": PrefectEvents(kind="prefect"),
        "people": PrefectEvents(kind="prefect", tell=("approval",)),
    }
    messages = of_decision(
        at("stage"), decided(at("stage"), Alert(text="no records"), AwaitApproval(stage_index=0, text="passed"))
    )
    found = [(one.receiver, one.message.kind, one.told) for one in letters(receivers, messages, told=("people",))]
    assert found == [("all", "alert", False), ("all", "approval", False), ("people", "approval", True)]
