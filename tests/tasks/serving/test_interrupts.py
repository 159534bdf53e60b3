"""Ctrl-C in a terminal: the whole process group of a real `slipway build` gets SIGINT. Only vLLM is a stub."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from stub_project import SHOWS_WHERE, Running, hears_ctrl_c, interrupt, stub_project, until
from tiny_model import conversation, save_tiny_model

from delivery.clients.processes import local as processes
from tasks.evals.model_server import OWN

pytestmark = pytest.mark.live
MARK = "SLIPWAY_TEST_MARK"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A project that trains a model of a few thousand weights, and whose vLLM never gets ready."""
    model = save_tiny_model(tmp_path / "model", context_tokens=4096)  # what the stub project asks for
    rows = [{"messages": conversation(number)} for number in range(24)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project = stub_project(
        tmp_path,
        "--start-s",
        "600",
        model=model,
        dataset={"name": "x", "sources": [{"path": str(tmp_path / "rows.jsonl")}], "split": {"holdout_share": 0.2}},
        training={"lora": {"rank": 4, "alpha": 8}, "max_steps": 2, "batch_size": 4, "learning_rate": 0.01},
    )
    place = Running(project, tmp_path / "home")
    yield place
    for file in place.folder.glob("*.pid"):
        processes.stop(file.stem, place.folder)


def build(place: Running, log: Path) -> subprocess.Popen[bytes]:
    """As a shell starts it: in a process group of its own, on the embedded default."""
    argv = [sys.executable, "-m", "flows.cli.main", "build", "--project", place.project.folder, "--home", place.home]
    env = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    env |= {"PREFECT_HOME": str(place.home / "prefect"), MARK: str(place.home), **SHOWS_WHERE}
    with log.open("wb") as out:
        return subprocess.Popen(argv, env=env, stdout=out, stderr=out, start_new_session=True, preexec_fn=hears_ctrl_c)


def started_by(place: Running) -> list[psutil.Process]:
    """Everything alive that inherited the command's environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(place.home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def reaches_vllm(place: Running, command: "subprocess.Popen[bytes]", log: Path) -> None:
    until(lambda: place.find(OWN) is not None or command.poll() is not None, 600)
    assert command.poll() is None, log.read_text()


def test_an_interrupted_build_ends_at_once_the_same_command_goes_on_and_a_killed_one_leaves_no_process(
    running: Running, tmp_path: Path
) -> None:
    log = tmp_path / "interrupted.log"
    first = build(running, log)
    reaches_vllm(running, first, log)
    names = {name for process in started_by(running) for name in process.cmdline()}
    assert {"flows.cli.main", "uvicorn", "--served-model-name"} <= names  # the command, Prefect's server, vLLM
    assert interrupt(first, signal.SIGINT, 120.0) == 128 + signal.SIGINT, log.read_text()  # 4 s on a quiet machine
    assert started_by(running) == []
    said = log.read_text()
    assert "importing torch" in said
    assert "Traceback" not in said, said
    assert not list((running.home / "prefect-servers").iterdir())

    log = tmp_path / "killed.log"
    second = build(running, log)
    reaches_vllm(running, second, log)
    assert "importing torch" not in log.read_text()  # what was trained is found again
    second.kill()
    second.wait()
    until(lambda: started_by(running) == [])
