"""`slipway review`: from complaints in a log to rows that three people answer for, command by command."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stub_project import stub_project
from typer.testing import CliRunner, Result

from configs.errors import SlipwayError
from configs.traffic_log import TrafficLog
from delivery.gateway.records.log_files import LogFiles
from flows.cli.main import app

Say = Callable[..., Result]
ANSWER = "What do you get when you count on?"


@pytest.fixture
def say(tmp_path: Path) -> Say:
    recipe = {
        "name": "complaints",
        "sources": [{"review": "preferences"}],
        "split": {"holdout_prompts": 1},
        "filters": {"max_row_tokens": 256},
        "review": {"reviewers": 2, "sample_share": 0, "people": ["ann", "bob", "carol"]},
    }
    project = stub_project(tmp_path, dataset=recipe)

    def run(*words: str, by: str | None = None) -> Result:
        place = ["--project", str(project.folder), "--home", str(tmp_path / "home")]
        return CliRunner().invoke(app, ["review", *words, *place, *(["--by", by] if by else [])])

    return run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """One request that nobody minds, and two that a user rated -1."""
    now = time.time()
    files = LogFiles(tmp_path / "traffic", TrafficLog(text=True), "gateway")
    files.start()
    files.write([*(attempt(number, now) for number in range(3)), *(rated(number, now) for number in (1, 2))], now)
    files.close(now)
    return tmp_path / "traffic"


def attempt(number: int, now: float) -> dict[str, Any]:
    return {
        "event": "attempt",
        "route": "tutor",
        "request_id": f"q{number}",
        "variant": "stable",
        "role": "served",
        "user": "u1",
        "status": 200,
        "ok": True,
        "started_at": now - 9,
        "ended_at": now - 8,
        "prompt": json.dumps([{"role": "user", "content": f"What is {number} + 3?"}]),
        "answer": f"It is {number + 3}.",
    }


def rated(number: int, now: float) -> dict[str, Any]:
    return attempt(number, now) | {"event": "feedback", "rating": -1, "prompt": None, "answer": None, "ended_at": now}


def taken(say: Say, by: str) -> str:
    shown = say("next", "--json", by=by)
    assert shown.exit_code == 0, shown.output
    return str(json.loads(shown.output)["id"])


def test_complaints_become_rows_that_three_people_answer_for(say: Say, log: Path) -> None:
    assert "2 items found, 2 of them new" in say("collect", "--log", str(log), by="ann").output
    assert "2 items found, 0 of them new" in say("collect", "--log", str(log), by="ann").output
    item = taken(say, "ann")
    assert taken(say, "bob") != item  # one person at a time
    say("give-back", taken(say, "bob"), by="bob")
    assert "is open" in say("rewrite", item, "--answer", ANSWER, "--reason", "it told the answer", by="ann").output
    own = say("approve", item, "--reason", "mine", by="ann")
    assert isinstance(own.exception, SlipwayError)
    assert "nobody approves their own rewrite" in own.exception.render()
    assert say("export", "preferences").output == ""
    for person in ("bob", "carol"):
        assert say("next", "--item", item, by=person).exit_code == 0
        decided = say("approve", item, "--reason", "guides", "--label", "giveaway", by=person)
    assert f"{item} is approved" in decided.output
    (row,) = map(json.loads, say("export", "preferences").output.splitlines())
    assert [message["content"] for message in row["chosen"]] == [ANSWER]
    assert (row["review"]["reviewers"], row["review"]["rewritten_by"]) == (["bob", "carol"], "ann")
    listed = json.loads(say("list", "--status", "approved", "--json").output)
    assert item in json.dumps(listed)
    assert item in say("list", "--status", "approved").output


def test_a_rejected_item_and_an_erased_one_are_rows_no_more(say: Say, log: Path) -> None:
    say("collect", "--log", str(log), by="ann")
    item = taken(say, "ann")
    say("label", item, "arithmetic", "--reason", "sums", by="ann")
    assert "is open" in say("reject", item, "--reason", "nothing to learn", by="ann").output
    say("next", "--item", item, by="bob")
    assert f"{item} is rejected" in say("reject", item, "--reason", "so I think", by="bob").output
    told = say("erase", "--user", "u1", "--reason", "u1 asked for it", by="carol")
    assert told.exit_code == 0, told.output
    assert say("next", by="ann").exit_code == 1
    assert "3?" not in say("list", "--status", "erased").output


def test_whoever_may_not_review_and_commands_that_contradict_themselves_are_told_so(say: Say, log: Path) -> None:
    say("collect", "--log", str(log), by="ann")
    for words, by, what in (
        (("next",), "mallory", "mallory"),
        (("collect", "--log", str(log), "--rows", str(log)), "ann", "several places"),
        (("rewrite", "r-0", "--reason", "x"), "ann", "exactly one new answer"),
        (("approve", "r-000000000000", "--reason", "x"), "ann", "r-000000000000"),
    ):
        found = say(*words, by=by)
        assert isinstance(found.exception, SlipwayError), (words, found.output)
        assert what in found.exception.render()
