"""The vLLM that a build evaluates on: the environment's own when it runs, else one that ends with the build."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from configs.errors import SlipwayError, require_all
from configs.project import Project
from delivery.clients import processes
from delivery.clients.ports import require_free
from delivery.clients.vllm import VllmClient
from delivery.progress import Progress
from tasks.serving import addresses, environment_folder, ports_of, vllm_health
from tasks.vllm_command import phase, require_vllm, vllm_command

API_KEY = "SLIPWAY_VLLM_API_KEY"


def require_place(project: Project, home: Path) -> None:
    """Raises SlipwayError when `model_server` could neither use a vLLM that runs nor start one."""
    environment = project.environment
    url = addresses(environment).vllm_url
    if processes.find("vllm", environment_folder(environment, home)) is not None:
        return  # it may be starting: whether it serves the model is seen when it is ready
    if vllm_health(url) == "ok":
        _require_model(url, project.model.name)
        return
    ports = [partial(require_free, port) for port in ports_of(environment)["vllm"]]
    require_all("no vLLM can be started", [partial(require_vllm, environment.vllm), *ports])


@contextmanager
def model_server(project: Project, base: Path, home: Path, on_progress: Progress) -> Iterator[str]:
    """The base URL of a vLLM that serves the project's base model. One that was started here ends here."""
    environment = project.environment
    url = addresses(environment).vllm_url
    folder = environment_folder(environment, home)
    running = processes.find("vllm", folder)

    def ready() -> bool:
        return vllm_health(url) == "ok"

    timeout_s = environment.vllm.start_timeout_s
    if running is not None or ready():
        if running is not None:
            processes.wait_ready(running, folder, ready, timeout_s, on_progress, phase)
        _require_model(url, project.model.name)
        yield url
        return
    command = vllm_command(environment.vllm, project.model.name, base, project.model.max_context_tokens)
    with processes.exclusive(folder):
        for port in ports_of(environment)["vllm"]:
            require_free(port)
        process = processes.launch(command, folder, attached=True)
    try:
        processes.wait_ready(process, folder, ready, timeout_s, on_progress, phase)
        yield url
    finally:
        processes.stop("vllm", folder)


@contextmanager
def loaded_adapter(url: str, name: str, folder: Path) -> Iterator[None]:
    """An adapter that vLLM lists and answers with; unloaded afterwards unless it was there before."""
    with VllmClient(url, os.environ.get(API_KEY)) as client:
        was_there = name in client.models()
        client.load_adapter(name, folder.absolute())
        client.verify(name, folder.absolute())
        try:
            yield
        finally:
            if not was_there:
                client.unload_adapter(name)


def _require_model(url: str, name: str) -> None:
    with VllmClient(url, os.environ.get(API_KEY)) as client:
        served = client.models()
    if name not in served:
        raise SlipwayError(
            f"the vLLM at {url} does not serve {name}; it serves {', '.join(sorted(served)) or 'nothing'}",
            where="environment.yaml: vllm.port",
            cure="end it, or give this environment another port",
        )
