"""Debian's registry as a process of its own: with TLS and a login, or with neither."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from own_certificate import own_certificate

from delivery.clients.processes.ports import free_ports

USER, PASSWORD = "ada", "lovelace"


@dataclass(frozen=True)
class DebianRegistry:
    """Where it is, what its certificate is to be trusted by, and where it keeps what it has."""

    host: str
    ca_file: Path | None
    storage: Path

    @property
    def login(self) -> dict[str, str]:
        return {"SLIPWAY_REGISTRY_USER": USER, "SLIPWAY_REGISTRY_PASSWORD": PASSWORD} if self.ca_file else {}


@contextmanager
def debian_registry(
    folder: Path, *, guarded: bool, address: str = "127.0.0.1", deletes: bool = True
) -> Iterator[DebianRegistry]:
    """`guarded`: with TLS and htpasswd. `address`: of this machine, where it listens. `deletes`: if it is asked to."""
    missing = [name for name in ("docker-registry", "htpasswd") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: run tests/engines.sh registry")
    folder.mkdir(parents=True)
    (port,), ca_file = free_ports(1), None
    settings = [
        "version: 0.1",
        "log: {level: error}",
        f"storage: {{filesystem: {{rootdirectory: {folder}/storage}}, delete: {{enabled: {str(deletes).lower()}}}}}",
    ]
    settings.append(f"http: {{addr: '{address}:{port}'")
    if guarded:
        ca_file, key = own_certificate(folder, address)
        settings[-1] += f", tls: {{certificate: {ca_file}, key: {key}}}"
        made = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], capture_output=True, check=True)
        (folder / "htpasswd").write_bytes(made.stdout)
        settings.append(f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}")
    settings = [line + "}" if line.startswith("http:") else line for line in settings]
    (folder / "config.yml").write_text("\n".join(settings) + "\n")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        url = f"{'https' if guarded else 'http'}://{address}:{port}/v2/"
        _await(process, url, str(ca_file) if ca_file else True, folder / "log")
        yield DebianRegistry(f"{address}:{port}", ca_file, folder / "storage")
    finally:
        process.terminate()
        process.wait(10)


def _await(process: "subprocess.Popen[bytes]", url: str, verify: str | bool, log: Path) -> None:
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        try:
            httpx.get(url, verify=verify, trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"the registry does not answer: {log.read_text()[-1000:]}")
