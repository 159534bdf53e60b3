"""The vLLM that a build evaluates on: the environment's own when it runs, else one that ends with the build."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from configs.errors import SlipwayError, require_all
from configs.project import Project
from configs.target import LocalTarget
from delivery.clients.processes import local as processes
from delivery.clients.processes.ports import free_ports, require_free
from delivery.clients.vllm import VllmClient
from delivery.progress import Progress
from tasks.serving.keep_alive import RestartPolicy
from tasks.serving.local import SUPERVISOR, addresses, environment_folder, ports_of, vllm_health
from tasks.serving.targets import target_of
from tasks.serving.vllm_command import phase, require_vllm, vllm_command

API_KEY = "SLIPWAY_VLLM_API_KEY"
ENVIRONMENTS, OWN = "vllm", "build-vllm"  # under one name a build and a supervisor would end each other's process
RESTART_PATIENCE_S = 2 * RestartPolicy().delay_s(RestartPolicy().tries - 1)  # by then a supervisor has tried again


def require_place(project: Project, home: Path) -> None:
    """Raises SlipwayError when `model_server` could neither use a vLLM that runs nor start one."""
    environment = project.environment
    if target_of(environment, home).evaluates_on(project.model.name) is not None:
        return
    url = addresses(environment).vllm_url
    folder = environment_folder(environment, home)
    if _is_coming(folder) or processes.find(OWN, folder) is not None:
        return  # it may be starting, or end before it is needed: what serves the model is seen then
    if vllm_health(url) == "ok":
        _require_model(url, project.model.name)
        return
    ports = [partial(require_free, port) for port in ports_of(environment)["vllm"]]
    require_all("no vLLM can be started", [partial(require_vllm, environment.vllm), *ports])


def apart(project: Project, name: str) -> Project:
    """The same project with a vLLM of its own on a free port, beside whatever its environment runs."""
    (port,) = free_ports(1)
    own = project.environment.vllm.model_copy(update={"port": port})
    environment = project.environment.model_copy(update={"name": name, "target": LocalTarget(), "vllm": own})
    return replace(project, environment=environment)


@contextmanager
def model_server(project: Project, base: Path, home: Path, on_progress: Progress) -> Iterator[str]:
    """The base URL of a vLLM that serves the project's base model.

    The environment's own is waited for and never ended, whatever happens here; one that was started here ends here.
    Raises SlipwayError when there is none in time, and when another build's serves in its place: that ends with it.
    """
    elsewhere = target_of(project.environment, home).evaluates_on(project.model.name)
    if elsewhere is not None:
        on_progress(0, 0, f"evaluating on the replica {elsewhere}")
        yield elsewhere
        return
    url = addresses(project.environment).vllm_url
    folder = environment_folder(project.environment, home)
    timeout_s = project.environment.vllm.start_timeout_s
    ready = lambda: vllm_health(url) == "ok"  # noqa: E731
    process = _launch_unless_there(project, base, folder, ready)
    if process is None:
        _wait_for_environments(folder, ready, timeout_s, on_progress)
        _require_model(url, project.model.name)
        yield url
        return
    try:
        processes.wait_ready(process, ready, timeout_s, on_progress, phase)
        yield url
    finally:
        processes.end(process, folder)


@contextmanager
def loaded_adapter(project: Project, home: Path, url: str, name: str, folder: Path) -> Iterator[None]:
    """An adapter that vLLM lists and answers with; unloaded afterwards unless it was there before.

    `folder` is where it lies here; vLLM is told where it sees it itself.
    """
    target = target_of(project.environment, home)
    if target.evaluates_on(project.model.name) is None:
        path = str(folder.absolute())  # it is a vLLM of this machine, which sees the same disk
    else:
        placed = target.place(folder)
        target.prove(url, placed)
        path = target.path_on(url, placed)
    with VllmClient(url, os.environ.get(API_KEY)) as client:
        was_there = name in client.models()
        client.load_adapter(name, path)
        client.verify(name, path)
        try:
            yield
        finally:
            if not was_there:
                client.unload_adapter(name)


def _launch_unless_there(
    project: Project, base: Path, folder: Path, ready: Callable[[], bool]
) -> processes.Process | None:
    """A vLLM for this build alone; None where one serves already, or is about to."""
    command = vllm_command(project.environment.vllm, project.model.name, base, project.model.max_context_tokens)
    with processes.exclusive(folder):
        others = processes.find(OWN, folder)
        if others is not None:
            raise SlipwayError(
                "another build evaluates on a vLLM of its own, which ends with it",
                where=f"process {others.pid}, {folder}",
                cure="when it is over, the same command goes on; or start one for all builds: slipway up",
            )
        if _is_coming(folder) or ready():
            return None
        for port in ports_of(project.environment)["vllm"]:
            require_free(port)
        return processes.launch(replace(command, name=OWN), folder, attached=True)


def _is_coming(folder: Path) -> bool:
    """Whether the environment's vLLM runs, or died and has a supervisor that starts it again."""
    process = processes.remembered(ENVIRONMENTS, folder)
    return process is not None and (process.alive() or processes.find(SUPERVISOR, folder) is not None)


def _wait_for_environments(folder: Path, ready: Callable[[], bool], timeout_s: float, on_progress: Progress) -> None:
    """Waits for a vLLM that is starting, and for one that died while its supervisor still restarts it."""
    began = alive_at = time.monotonic()
    while not ready():
        now, process = time.monotonic(), processes.remembered(ENVIRONMENTS, folder)
        if process is not None and process.alive():
            alive_at = now
        if process is None or not _is_coming(folder) or now - alive_at > RESTART_PATIENCE_S:
            raise SlipwayError(
                "the environment's vLLM is down", where=str(folder / f"{ENVIRONMENTS}.log"), cure="slipway up"
            )
        if now - began > timeout_s:
            raise processes.died(process, f"has not answered for {timeout_s:g} s")
        done, total, text = phase(process.output())
        on_progress(done, total, f"the environment's {text} ({now - began:.0f} s)")
        time.sleep(0.1)


def _require_model(url: str, name: str) -> None:
    with VllmClient(url, os.environ.get(API_KEY)) as client:
        served = client.models()
    if name not in served:
        raise SlipwayError(
            f"the vLLM at {url} does not serve {name}; it serves {', '.join(sorted(served)) or 'nothing'}",
            where="environment.yaml: vllm.port",
            cure="end it, or give this environment another port",
        )
