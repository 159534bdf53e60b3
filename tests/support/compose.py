"""Docker Compose, where it is: Debian's own program or the client's plugin."""

import shutil
import subprocess

import pytest


def compose() -> list[str]:
    """How it is called; the test skips where it is not."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
    if plugin.returncode != 0:
        pytest.skip("no Docker Compose, run tests/engines.sh compose")
    return ["docker", "compose"]
