"""What happens to vLLM and gateways outside of a release is told by their supervisor."""

from dataclasses import replace
from pathlib import Path

import pytest
from receivers import Hooks
from release_fakes import project

from configs.notifications import Webhook
from tasks.serving.keep_alive import Incident
from tasks.serving.supervisor import Told


def test_an_incident_is_told_and_a_recovery_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Hooks() as hooks:
        tutor = project()
        receivers = {"pager": Webhook(kind="webhook", url=hooks.url)}
        environment = tutor.environment.model_copy(update={"notifications": receivers})
        told = Told(replace(tutor, environment=environment), tmp_path)
        told.of(Incident("vllm", "died", "vllm died with status -9: out of memory"))
        told.of(Incident("vllm", "restarting", "vllm is started again, try 1 of 3"))
        told.of(Incident("vllm", "back", "vllm serves again after 30 s"))
        told.of(Incident("vllm", "gave_up", "vllm was restarted 3 times and is left alone now"))
        told.stop()
        assert [body["title"] for _, _, body in hooks.got] == [
            "local: vllm died with status -9: out of memory",
            "local: vllm was restarted 3 times and is left alone now",
        ]
    assert capsys.readouterr().out == ""


def test_a_ledger_that_cannot_be_opened_is_said_and_the_incident_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Hooks() as hooks:
        tutor = project()
        receivers = {"pager": Webhook(kind="webhook", url=hooks.url)}
        environment = tutor.environment.model_copy(update={"notifications": receivers})
        (tmp_path / "environments").write_text("a file where a folder should be")
        told = Told(replace(tutor, environment=environment), tmp_path)
        told.of(Incident("vllm", "died", "vllm died"))
        assert "nobody can be told yet: the ledger cannot be used" in capsys.readouterr().out
        (tmp_path / "environments").unlink()
        told.look()
        told.stop()
        assert [body["title"] for _, _, body in hooks.got] == ["local: vllm died"]
