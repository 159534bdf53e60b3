"""The gateway's image as it is run: without rights, on a root that nobody writes to; its health is what it says."""

import time

import docker
import httpx
import pytest
from docker_images import engine, image

pytestmark = pytest.mark.live

TOKEN = "a-token-for-tests-of-32-characters-and-more"
HARDENED = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "", "/state": "uid=10001"},
}


@pytest.mark.timeout(900)
def test_the_gateways_image_serves_without_rights_and_says_that_it_is_healthy() -> None:
    client = engine()
    container = client.containers.run(
        image("gateway"), detach=True, environment={"SLIPWAY_ADMIN_TOKEN": TOKEN}, **HARDENED
    )
    try:
        state = _settled(container)
        assert state["Health"]["Status"] == "healthy", state
        assert container.exec_run("id -u").output.strip() == b"10001"
        assert container.exec_run("touch /opt/slipway/x").exit_code != 0
        seen = set(container.exec_run("ls /opt/slipway").output.decode().split())
        assert seen == {"configs", "delivery", "evals"}
        address = container.attrs["NetworkSettings"]["IPAddress"]
        assert httpx.get(f"http://{address}:8001/admin/table", trust_env=False).status_code == 401
        container.stop(timeout=15)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0, container.logs().decode()
    finally:
        container.remove(force=True)


def _settled(container: "docker.models.containers.Container") -> dict:
    """Once its health is known, half a minute at most."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        container.reload()
        state = container.attrs["State"]
        if state["Health"]["Status"] != "starting" or not state["Running"]:
            return state
        time.sleep(0.2)
    return state
