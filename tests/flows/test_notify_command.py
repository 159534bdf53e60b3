"""`slipway notify` says what each receiver answers; its exit status is 0 only if all took their messages."""

import time
from pathlib import Path

import pytest
import yaml
from receivers import Hooks
from typer.testing import CliRunner

from configs.project import load_project
from delivery.clients.processes.ports import free_ports
from delivery.release.messages import letters, of_gate
from flows.cli.main import app
from flows.cli.status import untold
from tasks.release.site import open_ledger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = tmp_path / "project"
    here.mkdir()
    project = {"route": "tutor", "extends": str(Path("configs/tutor").absolute())}
    (here / "project.yaml").write_text(yaml.safe_dump(project))
    return here


def notify(folder: Path, receivers: dict[str, str], *words: str) -> tuple[int, str]:
    notifications = {name: {"kind": "webhook", "url": url} for name, url in receivers.items()}
    (folder / "environment.yaml").write_text(yaml.safe_dump({"notifications": notifications}))
    place = ["--project", str(folder), "--home", str(folder / "home")]
    done = CliRunner().invoke(app, ["notify", *place, *words])
    return done.exit_code, done.output


def test_a_test_message_is_answered_by_each_with_a_cure_where_it_fails(folder: Path) -> None:
    with Hooks() as good:
        away = f"http://127.0.0.1:{free_ports(1)[0]}"
        status, said = notify(folder, {"good": good.url, "away": away}, "--test", "--by", "ann")
        assert status == 2
        assert "good         ok   status 200: ok" in said
        assert "away         FAIL it cannot be reached" in said
        assert "-> see that its address is right" in said
        assert notify(folder, {"good": good.url, "away": away}, "--test", "--receiver", "good")[0] == 0
        assert len(good.got) == 2
    assert not (folder / "home").exists(), "a test needs no ledger"


def test_what_waits_is_shown_by_status_and_tried_by_notify(folder: Path) -> None:
    with Hooks() as hooks:
        assert notify(folder, {"pager": hooks.url}) == (0, "nothing waits to be told\n")
        environment = load_project(folder).environment
        ledger, now = open_ledger(environment, folder / "home"), time.time()
        message = of_gate("local", "tutor", "sha256:1a2b", "format fell", now - 600)
        ledger.outbox.add(letters(environment.notifications, [message]))
        hooks.status, hooks.says = 503, "maintenance"
        status, said = notify(folder, {"pager": hooks.url})
        assert status == 2
        assert "FAIL status 503: maintenance (tutor: the eval gate refuses bundle 1a2b)" in said
        (line,) = untold(ledger.outbox.waiting("local"), now)
        assert "pager: 1 message(s), the oldest 10 min old: status 503: maintenance; next try in" in line
        (old,) = untold(ledger.outbox.waiting("local"), now + 4 * 86_400)
        assert "given up after three days" in old
        hooks.status = 200
        assert notify(folder, {"pager": hooks.url})[0] == 0
        assert hooks.keys == [message.key]
        assert untold(ledger.outbox.waiting("local"), now) == []
        ledger.close()
