"""Every way in which a Prefect server cannot be used ends in one message with its cure."""

import socket
from pathlib import Path

import httpx
import pytest
from answering import answering
from prefect.settings import PREFECT_API_URL, temporary_settings

from configs.errors import SlipwayError
from delivery.clients.processes.ports import free_ports
from delivery.progress import silent
from flows.cli.main import for_users
from tasks.prefect_server import require_prefect_server, require_usable


def told(url: str, home: Path) -> SlipwayError:
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(SlipwayError) as found:
        require_prefect_server(home, silent)
    assert found.value.where.startswith(url.split("/api")[0])
    assert not list(home.iterdir())
    return found.value


@pytest.mark.parametrize(
    ("status", "body", "what", "cure"),
    [
        (401, b"{}", "asks for a login (status 401)", "PREFECT_API_AUTH_STRING"),
        (403, b"{}", "refuses this login (status 403)", "PREFECT_API_KEY"),
        (404, b"{}", "not Prefect's API (status 404)", "/api"),
        (500, b"{}", "server fails (status 500)", "its log"),
        (503, b"{}", "server fails (status 503)", "its log"),
        (200, b"<html>hello</html>", "not Prefect's API", "/api"),
        (200, b'{"hello": "world"}', "not Prefect's API", "/api"),
    ],
)
def test_an_answer_that_is_of_no_use_says_what_to_do(
    status: int, body: bytes, what: str, cure: str, tmp_path: Path
) -> None:
    with answering(status, body) as place:
        error = told(f"http://{place}/api", tmp_path)
    assert what in error.what
    assert cure in error.cure


def test_a_server_that_is_not_there_says_how_to_start_one(tmp_path: Path) -> None:
    error = told(f"http://127.0.0.1:{free_ports(1)[0]}/api", tmp_path)
    assert "cannot be reached" in error.what
    assert "prefect server start" in error.cure


def test_plain_http_behind_https_says_how_to_write_the_address(tmp_path: Path) -> None:
    with answering(200) as place:
        error = told(f"https://{place}/api", tmp_path)
    assert "PREFECT_API_SSL_CERT_FILE" in error.cure


def test_a_server_that_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket() as mute:  # takes connections, and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: url}), pytest.raises(SlipwayError, match="answer in time"):
            require_usable(timeout_s=0.3)


def test_a_server_that_is_lost_later_is_told_with_what_to_do_and_a_bug_is_not_taken_for_it() -> None:
    error = for_users(httpx.ConnectError("All connection attempts failed"))
    assert error is not None
    assert "give the command again" in error.cure
    assert for_users(KeyError("x")) is None
