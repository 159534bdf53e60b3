"""What the demo puts around the product does what its chapters say."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from configs.errors import SlipwayError
from configs.project import Project, load_project
from configs.routing import Candidate, Route, RoutingTable, Variant
from delivery.clients.processes import local as processes
from demo.stage import FAULTS, FAULTS_AFTER_S, all_records, failing_upstream, traffic

pytestmark = pytest.mark.live

PAGE = 2  # records


@dataclass
class Surroundings:
    """A gateway with its admin side, and a vLLM, behind one port."""

    table: RoutingTable
    port: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # models
    pages: list[int] = field(default_factory=list)  # after which record each was asked for

    def get(self, path: str) -> dict[str, Any]:
        if path.startswith("/admin/records"):
            after = int(parse_qs(urlsplit(path).query)["after"][0])
            self.pages.append(after)
            rows = [record for record in self.records if record["seq"] > after][:PAGE]
            seen = {"boot_id": "b", "now": 1.0, "revision": 1, "lease_remaining_s": None, "in_flight": [], "dropped": 0}
            return {**seen, "records": rows, "last_seq": len(self.records)}
        return self.table.model_dump(mode="json") if path == "/admin/table" else {}

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body["model"])
        choice = {"index": 0, "message": {"role": "assistant", "content": "What first?"}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}


@pytest.fixture
def around() -> Iterator[Surroundings]:
    found = Surroundings(table(share_bp=0))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(found.get(self.path))

        def do_POST(self) -> None:
            self.reply(found.chat(json.loads(self.rfile.read(int(self.headers["content-length"])))))

        def reply(self, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        found.port = server.server_port
        yield found
        server.shutdown()


@pytest.fixture
def project(around: Surroundings) -> Project:
    """The tutor, whose environment is the stub."""
    tutor = load_project(Path("configs/tutor"))
    vllm = tutor.environment.vllm.model_copy(update={"port": around.port})
    gateway = tutor.environment.gateway.model_copy(update={"port": around.port, "admin_port": around.port})
    return replace(tutor, environment=tutor.environment.model_copy(update={"vllm": vllm, "gateway": gateway}))


def table(share_bp: int) -> RoutingTable:
    """The new adapter mirrored (0), or with a share of the users."""
    urls = ("http://127.0.0.1:1",)
    variants = {name: Variant(model=name, upstreams=urls) for name in ("base", "new")}
    share = Candidate(variant="new", share_bp=share_bp, mirror_bp=0 if share_bp else 5000)
    route = Route(salt="s", variants=variants, stable="base", candidate=share)
    return RoutingTable(revision=1 + bool(share_bp), lease_s=15, routes={"tutor": route})


def until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_the_upstream_goes_wrong_for_the_candidate_alone_some_seconds_after_its_first_share(
    around: Surroundings, project: Project, tmp_path: Path
) -> None:
    def ask(url: str, model: str) -> tuple[int, float]:
        began = time.monotonic()
        status = httpx.post(f"{url}/v1/chat/completions", json={"model": model, "messages": []}, timeout=60).status_code
        return status, time.monotonic() - began

    def faults(url: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{url}/faults").raise_for_status().json()["faults"]
        return found

    with failing_upstream(project, tmp_path, "token", "new") as url:
        time.sleep(0.5)  # in shadow nothing goes wrong, however long
        assert faults(url)["error_rate"] == 0
        assert ask(url, "new")[0] == 200
        shared_at = time.monotonic()
        around.table = table(share_bp=1000)
        until(lambda: faults(url)["error_rate"] > 0)
        assert time.monotonic() - shared_at >= FAULTS_AFTER_S
        answers = [ask(url, "new") for _ in range(3)]
        assert sum(status == 500 for status, _ in answers) >= 2  # each with a chance of 0.9, by a fixed seed
        assert all(took_s >= FAULTS["latency_s"] for _, took_s in answers)
        answers = [ask(url, "base") for _ in range(5)]
        assert {status for status, _ in answers} == {200}
        assert min(took_s for _, took_s in answers) < FAULTS["latency_s"]  # none is held back; the machine may be slow
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_a_candidate_that_never_gets_a_share_is_served_well_to_the_end(
    around: Surroundings, project: Project, tmp_path: Path
) -> None:
    with failing_upstream(project, tmp_path, "token", "new") as url:
        time.sleep(0.5)
        assert httpx.get(f"{url}/faults").json()["faults"]["error_rate"] == 0
    assert processes.find("faults", tmp_path) is None


def test_every_record_is_read_page_by_page(around: Surroundings, project: Project) -> None:
    who = {"route": "tutor", "epoch": "e", "variant": "base", "role": "served", "user": "u"}
    what = {"started_at": 1.0, "duration_s": 1.0, "ttft_s": None, "status": 200, "ok": True}
    around.records = [{"seq": n, "request_id": f"q{n}", **who, **what} for n in range(1, 6)]
    assert [record.seq for record in all_records(project, "token")] == [1, 2, 3, 4, 5]
    assert around.pages == [0, 2, 4, 5]


def test_a_gateway_without_records_has_none(project: Project) -> None:
    assert all_records(project, "token") == []


def test_users_ask_until_the_chapter_ends_and_what_they_saw_is_told(
    around: Surroundings, project: Project, tmp_path: Path
) -> None:
    with traffic(project, tmp_path, "chapter", rate=50, seed=1) as seen:
        until(lambda: len(around.asked) >= 5)
        assert seen.requests == 0
    assert seen.requests == len(around.asked) == len((tmp_path / "traffic-chapter.jsonl").read_text().splitlines())
    # the stub answers streams with plain JSON, which is no stream: these users saw a failure
    assert 0 < seen.failures < seen.requests
    assert seen.errors


def test_a_chapter_whose_traffic_died_in_the_middle_fails(
    around: Surroundings, project: Project, tmp_path: Path
) -> None:
    def kill_once_it_asks() -> None:
        until(lambda: len(around.asked) >= 1)
        found = processes.find("traffic", tmp_path)
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        until(lambda: processes.find("traffic", tmp_path) is None)

    with pytest.raises(SlipwayError, match="ended in the middle"), traffic(project, tmp_path, "x", rate=50, seed=1):
        kill_once_it_asks()


def test_the_failing_upstream_starts_beside_a_dead_proxy(project: Project, tmp_path: Path, dead_proxy: None) -> None:
    with failing_upstream(project, tmp_path, "token", "model") as url:
        assert httpx.get(f"{url}/health", trust_env=False).is_success
