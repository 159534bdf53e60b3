"""The table of metrics: every name means one thing everywhere, and a name that is not there is refused."""

import pytest
from traffic_of import Canary, plan_of, record, running

from configs.checks import Check
from configs.metrics import METRICS, READINGS, Metric, Prices, metric_named
from configs.rollout import Stage
from delivery.checks.forecast_traffic import Assumed, effects, outcomes
from delivery.checks.verdicts import judge
from delivery.traffic.records import Feedback, part

PRICES = Prices(prompt_per_million=1.0, completion_per_million=2.0)
CANARY = Stage(kind="canary", share_bp=5000)
OF_ANSWERS = [metric for metric in METRICS if metric.kind != "preference"]


def test_an_unknown_name_raises_wherever_it_is_asked_for() -> None:
    for name in ("eror_rate", "", "contract:", "latency_s", "contract:a b"):
        with pytest.raises(ValueError, match=r"no such metric.*error_rate.*contract:NAME"):
            metric_named(name)
        with pytest.raises(ValueError, match="no such metric"):
            Check(metric=name, max=0.5)
        with pytest.raises(ValueError, match="no such metric"):
            _ = Check.model_construct(metric=name, max=0.5).reads


def test_names_are_there_once() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert len({reading.name for reading in READINGS}) == len(READINGS)


@pytest.mark.parametrize("metric", OF_ANSWERS, ids=lambda metric: metric.name)
def test_a_row_of_the_table_is_enough_to_measure_judge_forecast_and_tell(metric: Metric) -> None:
    """Whoever adds a row gets all of this; a row that lacks something fails here."""
    check = Check(metric=metric.name, max=0.9)
    plan = plan_of(check, stages=(CANARY,), prices=PRICES)
    opinion = part(Feedback, record(1), at=1.0, rating=-1, escalated=True)
    canary = Canary(plan, CANARY).tick([{}] * 30, [{}] * 30, in_flight=[running()], feedback=[opinion])
    (result,) = [one for one in judge(plan, CANARY, canary.evidence).results if one.metric == metric.name]
    assert result.comparison
    effect = effects(check, Assumed())
    stable, candidate = outcomes(check, Assumed(), effect, paired=False)
    assert (candidate.shape[0], stable.sum()) == (len(effect), pytest.approx(1.0))


def test_a_reading_tells_values_from_no_value() -> None:
    whole, failed, slow = record(1), record(2, ok=False, error="status"), record(3, ok=False, error="idle_timeout")
    read = {reading.name: reading.of for reading in READINGS}
    assert [read["error_rate"](one, None) for one in (whole, failed)] == [False, True]
    assert [read["latency_s"](one, None) for one in (whole, failed, slow)] == [0.5, None, 0.5]
    assert [read["completion_tokens"](one, None) for one in (whole, failed)] == [20, None]
    assert (read["cost"](whole, None), read["cost"](whole, PRICES)) == (None, pytest.approx(0.14))
    assert metric_named("contract:format").reads.of(record(4, verdicts={"format": True}), None) is True
    assert metric_named("contract:format").reads.of(whole, None) is None


def test_no_feedback_is_no_complaint_and_a_missing_value_is_no_evidence() -> None:
    missing = {metric.name: metric.reads.missing for metric in METRICS}
    assert {name for name, means in missing.items() if means == "no"} == {"feedback_negative", "escalation"}
