"""The product's images, built once by the engine's cache; tests that want them skip where no engine runs."""

import fcntl
import os
import subprocess
from functools import cache
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from places import ROOT

BASE = "slipway-test-base:bookworm"  # no image can be pulled everywhere, and a root made of Debian's packages is close
CLI = next((path for path in ("/usr/bin/docker", "/usr/local/bin/docker") if Path(path).exists()), "docker")


def engine() -> docker.DockerClient:
    """A client of the engine that runs; the test skips where none does."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except DockerException as error:
        pytest.skip(f"no Docker engine answers, run tests/engines.sh: {error}")
    return client


@cache
def image(name: str) -> str:
    """The ID of `gateway` or `vllm`, of this checkout: the engine builds what has changed."""
    client = engine()
    with _one_at_a_time():
        _make_base(client)
        made = subprocess.run(
            ["make", "--no-print-directory", "images", f"IMAGES={name}", f"BASE={BASE}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert made.returncode == 0, made.stderr[-3000:]
        version = subprocess.run(["make", "-s", "version"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return str(client.images.get(f"slipway-{name}:{version.strip()}").id)


def image_on_base(tag: str, lines: str, files: dict[str, bytes]) -> str:
    """The ID of a small image on the same root: `lines` of a Dockerfile behind its FROM, and the files they copy."""
    client = engine()
    with _one_at_a_time():
        _make_base(client)
        folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"slipway-image-{tag}-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / "Dockerfile").write_text(f"FROM {BASE}\n{lines}\n")
        command = [CLI, "build", "--quiet", str(folder)]
        made = subprocess.run(command, env=os.environ | {"DOCKER_BUILDKIT": "1"}, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr[-3000:]
        return made.stdout.strip()


def _make_base(client: docker.DockerClient) -> None:
    try:
        client.images.get(BASE)
    except ImageNotFound:
        packages = "python3,ca-certificates,libnuma1"
        root = f"mmdebstrap --quiet --variant=minbase --include={packages} bookworm -"
        command = f"set -o pipefail; {root} | {CLI} import - {BASE}"
        made = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600)
        if made.returncode != 0:
            pytest.skip(f"no root for images, run tests/engines.sh: {made.stderr[-500:]}")


class _one_at_a_time:  # noqa: N801 - reads as a sentence
    """Test runs that go on at the same time build one after the other."""

    def __enter__(self) -> None:
        self._file = open("/tmp/slipway-images.lock", "w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        self._file.close()
