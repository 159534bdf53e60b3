"""The shipped project on a model of no weights, with a stub in vLLM's place, under ports of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from tiny_model import CHATML

from configs.project import Project, load_project
from delivery.clients.processes import local as processes
from delivery.clients.processes.ports import free_ports
from tasks.serving import local as serving

SHOWS_WHERE = {"PYTHONFAULTHANDLER": "1"}  # put into a command's environment
STUB = Path(__file__).with_name("stub_vllm.py")


def stub_python(folder: Path) -> Path:
    """An interpreter that runs the stub, whatever it is asked to run."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{STUB}" "$@"\n')
    python.chmod(0o755)
    return python


def stub_project(
    folder: Path,
    *vllm_arguments: str,
    model: Path | None = None,
    more_of_environment: dict[str, Any] | None = None,
    **files: Any,
) -> Project:
    """Loaded from `folder`/project; `files` are put beside model.yaml and environment.yaml."""
    model = model or _model_of_no_weights(folder / "model")
    vllm, gateway, admin = free_ports(3)
    python = str(stub_python(folder))
    settings = {
        "project": {"route": "tutor", "extends": str(Path("configs/tutor").absolute())},
        # a tokenizer of single letters makes long prompts longer still
        "model": {"name": "base", "path": str(model), "max_context_tokens": 4096},
        "environment": {
            "vllm": {"port": vllm, "python": python, "start_timeout_s": 120, "extra_args": list(vllm_arguments)},
            "gateway": {"port": gateway, "admin_port": admin},
            **(more_of_environment or {}),
        },
        **files,
    }
    (folder / "project").mkdir()
    for name, content in settings.items():
        (folder / "project" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return load_project(folder / "project")


def _model_of_no_weights(model: Path) -> Path:
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")  # whole, and without a tensor
    (model / "chat_template.jinja").write_text(CHATML)
    return model


def hears_ctrl_c() -> None:
    """In a child before it starts: a shell without job control has what it puts into the background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(group: "subprocess.Popen[Any]", number: int, patience_s: float) -> int:
    """Signals the process' whole group, as a terminal does; its exit status.

    One that does not end in time is aborted: under `SHOWS_WHERE` its stderr then says where each of its threads stood.
    """
    os.killpg(group.pid, number)
    try:
        return group.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        group.send_signal(signal.SIGABRT)
        return group.wait(timeout=patience_s)


def until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@dataclass(frozen=True)
class Running:
    """What runs of an environment."""

    project: Project
    home: Path

    @property
    def folder(self) -> Path:
        """Pid files and logs."""
        return serving.environment_folder(self.project.environment, self.home)

    def find(self, name: str) -> processes.Process | None:
        return processes.find(name, self.folder)

    def pids(self) -> dict[str, int]:
        """By name, whatever a pid file names that is alive."""
        found = {file.stem: processes.find(file.stem, self.folder) for file in self.folder.glob("*.pid")}
        return {name: process.pid for name, process in found.items() if process is not None}

    def vllm_answers(self) -> bool:
        return serving.vllm_health(serving.addresses(self.project.environment).vllm_url) == "ok"

    def kill(self, name: str) -> None:
        """kill -9 of the process itself; its guard notices."""
        process = self.find(name)
        assert process is not None
        until(lambda: bool(psutil.Process(process.pid).children()))
        os.kill(psutil.Process(process.pid).children()[0].pid, signal.SIGKILL)
        until(lambda: not process.alive())
