"""The approval as Prefect shows it: a form that asks for a decision, a name and a reason."""

from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema

from flows.approve import approve


def asked_for() -> dict[str, Any]:
    return parameter_schema(approve.fn).model_dump()


def test_the_form_asks_for_a_decision_a_name_and_a_reason() -> None:
    schema = asked_for()
    assert set(schema["required"]) == {"decision", "by", "reason"}
    assert schema["properties"]["decision"]["enum"] == ["approve", "reject"]
    assert schema["properties"]["by"]["minLength"] == 1
    assert "kept in the ledger" in schema["properties"]["reason"]["description"]


@pytest.mark.parametrize("wrong", [{"decision": "maybe"}, {"by": ""}, {"reason": ""}], ids=["decision", "by", "reason"])
def test_an_answer_that_lacks_something_is_refused_before_anything_happens(wrong: dict[str, str]) -> None:
    given = {"decision": "approve", "by": "ann", "reason": "fine"} | wrong
    with pytest.raises(Exception, match=next(iter(wrong))):
        approve.validate_parameters(given)
