"""The page on nginx holds: its configuration, with Debian's nginx, in front of a real gateway."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from gateway_world import CHAT, Running, World, eventually, table_for
from own_certificate import own_certificate
from places import ROOT
from stub_upstream import DONE, Gate, chunk, frame, sends

from delivery.clients.processes.ports import free_ports

pytestmark = pytest.mark.live

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PAGE = ROOT / "docs" / "nginx.md"
ONE, TWO = (frame(chunk({"content": word})) for word in ("one", "two"))


@dataclass
class Front:
    """nginx, seen from outside."""

    http: httpx.Client
    folder: Path
    gateway: Running

    def ask(self, **more: object) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=CHAT | more)


@pytest.fixture
def front(world: World, tmp_path: Path) -> Iterator[Front]:
    with in_front_of(world, world.gateway(table_for(world.upstream().url)), tmp_path) as found:
        yield found


@contextmanager
def in_front_of(world: World, gateway: Running, folder: Path) -> Iterator[Front]:
    """The page's own configuration; only ports, the certificate and nginx's folders are others."""
    if NGINX is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    (port,) = free_ports(1)
    certificate, key = own_certificate(folder)
    (text,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for old, new in (
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("server 127.0.0.1:8000;", f"server 127.0.0.1:{gateway.gateway.port};"),
        ("/etc/ssl/llm.example.org.pem", str(certificate)),
        ("/etc/ssl/llm.example.org.key", str(key)),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log {folder}/access.log; {temporary}\n{text}\n}}\n"
    )
    argv = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "error.log").read_text()
        trusts = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusts, trust_env=False, timeout=60) as http:
            yield Front(http, folder, gateway)
    finally:
        process.terminate()
        process.wait(60)


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_answers_come_over_tls_and_the_log_has_the_clients_address(front: Front) -> None:
    answer = front.ask()
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"]
    assert front.http.get("/v1/models").status_code == 200
    assert (front.folder / "access.log").read_text().startswith("127.0.0.1 - ")


def test_a_stream_arrives_part_by_part(world: World, tmp_path: Path) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ONE, gate, TWO, DONE)})
    with (
        in_front_of(world, world.gateway(table_for(stub.url)), tmp_path) as front,
        front.http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as answer,
    ):
        parts = answer.iter_text()
        first = ""
        while "one" not in first:
            first += next(parts)
        assert "two" not in first
        gate.open(world.loop)
        assert "two" in "".join(parts)


def test_no_way_leads_to_the_admin_api_or_to_anything_but_v1(front: Front) -> None:
    for path in (
        "/admin/table",
        "/metrics",
        "/healthz",
        "/",
        "/v1/../admin/table",
        "/v1/%2e%2e/admin/table",
        "//admin",
    ):
        assert front.http.get(path).status_code == 404, path
    assert front.http.put("/v1/admin/table", json={}).status_code in (404, 405)


def test_more_requests_than_an_address_may_send_get_429(front: Front) -> None:
    statuses = [front.http.get("/v1/models").status_code for _ in range(80)]
    assert statuses[:40] == [200] * 40
    assert 429 in statuses
    assert set(statuses) == {200, 429}


def test_more_streams_than_an_address_may_have_get_429(world: World, tmp_path: Path) -> None:
    gate = Gate()
    stub = world.upstream(**{"old-model": sends(ONE, gate, DONE)})
    with in_front_of(world, world.gateway(table_for(stub.url)), tmp_path) as front:
        found: list[int] = []

        def ask() -> None:
            with front.http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
                found.append(answer.status_code)
                answer.read()

        threads = [threading.Thread(target=ask) for _ in range(25)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(found) == 25)
        gate.open(world.loop)
        for thread in threads:
            thread.join(60)
    assert sorted(found) == [200] * 20 + [429] * 5


def test_a_body_beyond_the_limit_gets_413(front: Front) -> None:
    big = {"messages": [{"role": "user", "content": "x" * 5_000_000}]}
    assert front.ask(**big).status_code == 413
