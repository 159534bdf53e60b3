"""What API keys have spent outlives the process that counted it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from gateway_world import Clock, Running, World, table_for
from hypothesis import given
from hypothesis import strategies as st
from test_gateway_keys import ADA, BOB, ask, entry, write

from configs.api_keys import ApiKeys
from configs.errors import SlipwayError
from delivery.gateway.__main__ import main
from delivery.gateway.keys.access import Keys
from delivery.gateway.keys.budget_files import BudgetFile, parse_spent


def keys_of(clock: Clock, *entries: dict[str, Any]) -> Keys:
    keys = Keys(True, clock, clock)
    keys.replace(ApiKeys.model_validate({"keys": entries}))
    return keys


def test_a_gateway_that_is_started_again_remembers_what_was_spent(world: World, tmp_path: Path) -> None:
    keys, state = write(tmp_path / "keys.yaml", [entry(ADA, requests_per_minute=2)]), tmp_path / "budgets.json"
    clock = Clock()

    def start() -> Running:
        return world.gateway(table_for(world.upstream().url), api_keys=keys, budget_state=state, clock=clock)

    running = start()
    assert [ask(running, ADA).status_code for _ in range(3)] == [200, 200, 429]
    world.do(world.stack.aclose())
    running = start()
    assert ask(running, ADA).status_code == 429
    clock.now += 30
    assert [ask(running, ADA).status_code for _ in range(2)] == [200, 429]


@given(spent=st.floats(0, 300), age_s=st.floats(0, 200), capacity=st.integers(1, 200))
def test_what_is_kept_refills_as_if_the_gateway_had_run_on(spent: float, age_s: float, capacity: int) -> None:
    clock = Clock()
    one, other = (keys_of(clock, entry(ADA, tokens_per_minute=capacity)) for _ in range(2))
    one.restore({"ada": {"tokens_per_minute": spent}}, 0.0)
    kept = one.spent()
    clock.now += age_s
    other.restore(kept, age_s)
    limit = "tokens_per_minute"
    assert other.spent().get("ada", {}).get(limit, 0) == pytest.approx(
        one.spent().get("ada", {}).get(limit, 0), abs=1e-6
    )


def test_clients_and_limits_that_are_no_more_are_left_out(tmp_path: Path) -> None:
    clock = Clock()
    keys = keys_of(clock, entry(ADA, requests_per_minute=9), entry(BOB, "bob", tokens_per_day=9))
    keys.restore({"ada": {"requests_per_minute": 3}, "bob": {"tokens_per_day": 4}}, 0.0)
    file = BudgetFile(tmp_path / "folder" / "b.json", keys, clock)
    asyncio.run(file.write())
    _, spent = parse_spent((tmp_path / "folder" / "b.json").read_bytes())
    assert spent == {"ada": {"requests_per_minute": 3}, "bob": {"tokens_per_day": 4}}
    fewer = keys_of(clock, entry(ADA, tokens_per_day=9))
    BudgetFile(tmp_path / "folder" / "b.json", fewer, clock).restore()
    assert fewer.spent() == {}


def test_a_clock_that_was_set_back_refills_nothing(tmp_path: Path) -> None:
    keys = keys_of(Clock(5000.0), entry(ADA, requests_per_minute=9))
    keys.restore({"ada": {"requests_per_minute": 9}}, 0.0)
    asyncio.run(BudgetFile(tmp_path / "b.json", keys, Clock(5000.0)).write())
    later = keys_of(Clock(1.0), entry(ADA, requests_per_minute=9))
    BudgetFile(tmp_path / "b.json", later, Clock(1.0)).restore()
    assert later.spent() == {"ada": {"requests_per_minute": 9}}


@pytest.mark.parametrize(
    "text", ['{"at": 1', "[]", '{"at": 1, "spent": {"ada": 3}}', '{"at": "x", "spent": {}}', '{"at": -1, "spent": {}}']
)
def test_a_file_that_cannot_be_understood_is_set_aside_loudly_and_budgets_are_full(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "b.json").write_text(text)
    keys = keys_of(Clock(), entry(ADA, requests_per_minute=9))
    BudgetFile(tmp_path / "b.json", keys, Clock()).restore()
    assert keys.spent() == {}
    assert "the kept budgets are unreadable" in caplog.text
    assert (tmp_path / "b.json.unreadable").read_text() == text


def test_a_file_that_cannot_be_read_at_all_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "b.json").mkdir()
    with pytest.raises(SlipwayError, match="the kept budgets cannot be read"):
        BudgetFile(tmp_path / "b.json", keys_of(Clock()), Clock()).restore()


def test_a_disk_that_is_full_costs_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = keys_of(Clock(), entry(ADA, requests_per_minute=9))
    keys.restore({"ada": {"requests_per_minute": 1}}, 0.0)
    (tmp_path / "file").touch()
    asyncio.run(BudgetFile(tmp_path / "file" / "b.json", keys, Clock()).write())
    assert "could not be kept" in caplog.text


def test_budgets_without_keys_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--budget-state", "b.json"], {"SLIPWAY_ADMIN_TOKEN": "t" * 32}) == 2
    assert "--keys" in capsys.readouterr().err
