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

from configs.errors import SlipwayError
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.clients.processes.ports import free_ports
from delivery.progress import Progress

START_TIMEOUT_S = 300.0  # Prefect's own 20 s are too few for a busy machine
GRACE_S = 5.0
ANSWER_TIMEOUT_S = 20.0

START = "start it (`prefect server start`) or mend PREFECT_API_URL; without one, each command starts its own"
ADDRESS = "it looks like http://HOST:4200/api; unset PREFECT_API_URL and each command starts a server of its own"
NAME_ONE = "export PREFECT_API_URL=http://HOST:4200/api; a work pool lives on a server that stays"
TLS = "name its certificate authority in PREFECT_API_SSL_CERT_FILE; write http:// where it speaks plain HTTP"
FAILS = ("Prefect's server fails", "see its log, and whether its database runs and has room")
NOT_PREFECT = ("what answers is not Prefect's API", ADDRESS)
LOG_IN = "set PREFECT_API_AUTH_STRING to the server's own `user:password`, or PREFECT_API_KEY for Prefect Cloud"
STATUSES = {
    401: ("Prefect asks for a login", LOG_IN),
    403: ("Prefect refuses this login", LOG_IN),
}


def require_prefect_server(home: Path, on_progress: Progress) -> None:
    """Prefect's API answers: the one that its settings name, else one that ends with this process, however it ends.

    Call it before the first flow is imported. Raises SlipwayError with the cure when the named one cannot be used, and
    with the own one's last lines when that does not start.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        require_usable()
        return
    folder, name, (port,) = home.absolute() / "prefect-servers", f"server-{os.getpid()}", free_ports(1)
    _sweep(folder)
    on_progress(0, 0, "starting a Prefect server for this command; PREFECT_API_URL names one that stays")
    url = f"http://127.0.0.1:{port}/api"
    processes.start(_command(name, port), folder, ready=lambda: _answers(url), timeout_s=START_TIMEOUT_S, attached=True)
    atexit.register(_end, name, folder)  # before Prefect registers anything: its last reports are sent before this runs
    os.environ.update(PREFECT_API_URL=url, PREFECT_UI_URL="")  # it has no UI: no link to one is logged
    if settings.server.api.auth_string is not None:  # the server has taken it over from this very environment
        os.environ["PREFECT_API_AUTH_STRING"] = settings.server.api.auth_string.get_secret_value()
    refresh_global_settings_context()


def require_named_server() -> None:
    """A Prefect server that stays is named, and answers; else SlipwayError with the cure."""
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise SlipwayError("no Prefect server is named", where="PREFECT_API_URL", cure=NAME_ONE)
    require_usable()


def lost_prefect(error: BaseException) -> SlipwayError | None:
    """What a user is told when a flow ended because Prefect could not be used; None where that is not why."""
    found = explained(error)
    if found is None:
        return None
    cure = f"{found.cure}; then give the command again: what it had done is kept, `slipway status` shows a release"
    return SlipwayError(found.what, where=found.where, cure=cure)


def explained(error: BaseException) -> SlipwayError | None:
    """Why Prefect cannot be used, with the cure; None where the error is none of its client's."""
    from prefect.exceptions import PrefectException
    from prefect.settings import get_current_settings

    where = get_current_settings().api.url or "PREFECT_API_URL"
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        what, cure = STATUSES.get(status, FAILS if status >= httpx.codes.INTERNAL_SERVER_ERROR else NOT_PREFECT)
        return SlipwayError(f"{what} (status {status})", where=where, cure=cure)
    if isinstance(error, httpx.TimeoutException):
        return SlipwayError("Prefect does not answer in time", where=where, cure=START)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return SlipwayError(f"PREFECT_API_URL is no address: {error}", where=where, cure=ADDRESS)
    if isinstance(error, httpx.HTTPError):
        tls = "SSL" in str(error) or "certificate" in str(error)
        what = f"Prefect cannot be reached: {error or type(error).__name__}"
        return SlipwayError(what, where=where, cure=TLS if tls else START)
    return (
        SlipwayError(f"Prefect cannot be used: {error}", where=where, cure=START)
        if isinstance(error, PrefectException)
        else None
    )


def require_usable(timeout_s: float = ANSWER_TIMEOUT_S) -> None:
    """The server that Prefect's settings name takes our login and can read its database; else SlipwayError."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": timeout_s}) as client,
        ):
            client.read_flows(limit=1)  # needs its login and its database, which a look at /health does not
    except (ValueError, TypeError) as error:  # its answer is no JSON, or another kind of it
        what, cure = NOT_PREFECT
        raise SlipwayError(what, where=get_current_settings().api.url or "", cure=cure) from error
    except Exception as error:
        found = explained(error)
        if found is None:
            raise
        raise found from error


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
