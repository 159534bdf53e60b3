"""The Prefect server of one command, where nobody named one.

Prefect would start a temporary one in the terminal's process group: Ctrl-C ends that first, and the flow then tries for
minutes to report to nobody; after a `kill -9` it would stay. This one runs under a guard, in a session of its own.
"""

import atexit
import importlib.util
import os
import sys
from pathlib import Path

import httpx

from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.clients.processes.ports import free_ports
from delivery.progress import Progress

START_TIMEOUT_S = 300.0  # Prefect's own 20 s are too few for a busy machine
GRACE_S = 5.0


def require_prefect_server(home: Path, on_progress: Progress) -> None:
    """Prefect's API answers: the one that its settings name, else one that ends with this process, however it ends.

    Call it before the first flow is imported. Raises SlipwayError with the server's last lines when it does not start.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        return
    folder, name, (port,) = home.absolute() / "prefect-servers", f"server-{os.getpid()}", free_ports(1)
    _sweep(folder)
    on_progress(0, 0, "starting a Prefect server for this command; PREFECT_API_URL names one that stays")
    url = f"http://127.0.0.1:{port}/api"
    processes.start(_command(name, port), folder, ready=lambda: _answers(url), timeout_s=START_TIMEOUT_S, attached=True)
    atexit.register(_end, name, folder)  # before Prefect registers anything: its last reports are sent before this runs
    os.environ.update(PREFECT_API_URL=url, PREFECT_UI_URL="")  # it has no UI: no link to one is logged
    refresh_global_settings_context()


def _command(name: str, port: int) -> ProcessCommand:
    """As Prefect starts its temporary server: without its UI and most of its services."""
    found = importlib.util.find_spec("prefect")
    place = str(Path(found.origin).parent.parent) if found and found.origin else "."
    words = ("--app-dir", place, "--factory", "prefect.server.api.server:create_app", "--lifespan", "on")
    where = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "error")
    env = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    return ProcessCommand(name=name, argv=(sys.executable, "-m", "uvicorn", *words, *where), env=env, grace_s=GRACE_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _sweep(folder: Path) -> None:
    """Removes the logs of servers whose commands were killed, or could not start one."""
    for file in folder.glob("*.log"):
        if processes.find(file.stem, folder) is None:
            _end(file.stem, folder)


def _end(name: str, folder: Path) -> None:
    processes.stop(name, folder)
    (folder / f"{name}.log").unlink(missing_ok=True)
