"""A release through a real gateway process, with users who really ask: reaction times, and killed parts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from places import ROOT, SUPPORT
from release_child import PLAN, TOKEN, real_site
from release_fakes import base_bundle, lora_bundle, project
from stub_judge import StubJudge, prefers
from stub_responses import message, whole

from configs.checks import Check
from configs.judge import Judge
from configs.rollout import RolloutPlan
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.clients.gateway import GatewayClient
from delivery.clients.processes.ports import free_ports
from tasks.release.outcome import ReleaseOutcome
from tasks.release.replay import replay_log
from tasks.release.rollback import rollback
from tasks.release.run import run_release
from tasks.release.site import Site
from tasks.release.start import bootstrap

pytestmark = pytest.mark.live
SOON_S = 20.0  # for a busy machine: a quiet one needs a second, and benchmarks/rollback measures that


class Vllm:
    """Adapters, probes and answers over HTTP. Models in `broken` answer with 500."""

    def __init__(self) -> None:
        self.models = {"base": "/models/base"}
        self.broken: set[str] = set()
        self.says: dict[str, str] = {}  # by model; others say 2
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                cards = [
                    {"id": n, "root": r, "parent": None if n == "base" else "base"} for n, r in outer.models.items()
                ]
                self.reply(200, {"data": cards})

            def do_POST(self) -> None:
                self.reply(*outer.post(self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))

            def reply(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/v1/load_lora_adapter":
            self.models[body["lora_name"]] = body["lora_path"]
            return 200, {}
        if path == "/v1/unload_lora_adapter":
            del self.models[body["lora_name"]]
            return 200, {}
        if body["model"] not in self.models or (body["model"] in self.broken and {"messages", "input"} & body.keys()):
            return 500, {"error": {"message": "broken"}}
        if path == "/v1/responses":
            return 200, whole(body, [message(self.says.get(body["model"], "2"))])
        said = {"role": "assistant", "content": self.says.get(body["model"], "2")}
        choice = {"index": 0, "text": "2", "message": said, "finish_reason": "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
        return 200, {
            "id": "x",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }


@dataclass
class Place:
    """Gateway, vLLM, users and ledger, all real but for vLLM."""

    home: Path
    vllm: Vllm
    state: Path
    port: int
    admin_port: int
    failed: list[str] = field(default_factory=list)
    asked: int = 0
    said: list[str] = field(default_factory=list)
    gateway: "subprocess.Popen[bytes] | None" = None
    stop: threading.Event = field(default_factory=threading.Event)
    path: str = "/v1/chat/completions"  # where users ask
    traffic_log: Path | None = None
    workers: int = 1

    def start_gateway(self) -> None:
        command = [sys.executable, "-m", "delivery.gateway", "--port", str(self.port), "--admin-port"]
        command += [str(self.admin_port), "--table-state", str(self.state / "table.json")]
        command += ["--workers", str(self.workers)]
        command += ["--traffic-log", str(self.traffic_log)] if self.traffic_log is not None else []
        env = os.environ | {"SLIPWAY_ADMIN_TOKEN": TOKEN}
        with (self.state / "gateway.log").open("ab") as log:
            self.gateway = subprocess.Popen(command, env=env, stderr=log)
        with GatewayClient(self.admin_url, TOKEN) as client:
            deadline = time.monotonic() + 120
            while not client.ready():
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def users(self) -> None:
        """About 50 requests a second of 100 users, until the end."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False) as http:
            while not self.stop.is_set():
                self.asked += 1
                path, name = self.path, "input" if self.path == "/v1/responses" else "messages"
                body = {"model": "tutor", name: [{"role": "user", "content": "1 + 1?"}]}
                try:
                    answer = http.post(path, json=body, headers={"x-slipway-user": f"u{self.asked % 100}"})
                    if answer.status_code != 200:
                        self.failed.append(answer.text)
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                self.stop.wait(0.02)

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def site(self) -> Site:
        return real_site(self.home, self.admin_url, self.vllm.server.server_port)

    def built(self) -> Bundle:
        bundle, site = lora_bundle(self.home), self.site()
        site.ledger.add_build(bundle, GateDecision(passed=True, findings=()), time.time())
        return bundle

    def release(self, bundle: Bundle, during: dict[str, Any] | None = None, plan: RolloutPlan = PLAN) -> ReleaseOutcome:
        """`during`: what to do once a stage of this name begins."""
        waiting = dict(during or {})

        def on_progress(done: int, total: int, text: str) -> None:
            self.said.append(text)
            for stage in list(waiting):
                if stage in text:
                    waiting.pop(stage)()

        return run_release(project(plan), bundle, self.site(), on_progress=on_progress)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with asked_place(tmp_path_factory.mktemp("running")) as place:
        yield place


@contextmanager
def asked_place(folder: Path, traffic_log: Path | None = None, workers: int = 1) -> Iterator[Place]:
    """All parts run, and two users ask."""
    port, admin_port = free_ports(2)
    found = Place(folder, Vllm(), folder, port, admin_port, traffic_log=traffic_log, workers=workers)
    users = [threading.Thread(target=found.users) for _ in range(2)]
    try:
        found.start_gateway()
        bootstrap(found.site(), "tutor", base_bundle(), PLAN.lease_s)
        for user in users:
            user.start()
        yield found
    finally:
        found.stop.set()
        for user in users:
            if user.ident is not None:
                user.join(65)
        assert found.gateway is not None
        found.gateway.terminate()
        found.gateway.wait(120)
        found.vllm.server.shutdown()


@pytest.fixture
def place(running: Place, tmp_path: Path) -> Place:
    """A ledger and a state folder of its own; gateway, vLLM and users go on."""
    running.home = tmp_path
    running.vllm.broken.clear()
    bootstrap(running.site(), "tutor", base_bundle(), PLAN.lease_s)
    running.vllm.models = {"base": "/models/base"}
    running.failed.clear()
    running.path = "/v1/chat/completions"
    return running


def test_a_release_goes_live_and_back_with_users_who_notice_nothing(place: Place) -> None:
    bundle = place.built()
    outcome = place.release(bundle)
    assert (outcome.outcome, outcome.failed_user_requests) == ("live", 0)
    assert outcome.user_requests > 30
    done = rollback(place.site(), "tutor", by="ann", reason="a try")
    assert done.outcome == "rolled_back"
    assert done.to_stable_s is not None
    assert done.to_stable_s < SOON_S
    assert bundle.served_name not in place.vllm.models
    assert place.failed == []


def test_a_candidate_that_breaks_in_canary_is_off_soon(place: Place) -> None:
    bundle = place.built()
    outcome = place.release(bundle, {"1-canary": lambda: place.vllm.broken.add(bundle.served_name)})
    assert (outcome.outcome, outcome.failed_user_requests) == ("rolled_back", 0)
    assert outcome.breach_to_stable_s is not None
    assert outcome.decision_to_stable_s is not None
    assert outcome.breach_to_stable_s < SOON_S
    assert outcome.decision_to_stable_s < SOON_S
    assert place.failed == []


@pytest.mark.parametrize(("is_broken", "outcome"), [(False, "live"), (True, "rolled_back")])
def test_a_release_is_judged_by_users_who_ask_for_responses_alone(place: Place, is_broken: bool, outcome: str) -> None:
    place.path = "/v1/responses"
    bundle = place.built()
    breaks = {"1-canary": lambda: place.vllm.broken.add(bundle.served_name)}
    done = place.release(bundle, breaks if is_broken else {})
    assert (done.outcome, done.failed_user_requests) == (outcome, 0)
    assert done.user_requests > 10
    assert place.failed == []


def test_what_its_gateway_gave_up_is_off_at_once_even_where_no_check_could_tell_yet(place: Place) -> None:
    lenient = PLAN.model_copy(update={"checks": (Check(metric="error_rate", max=0.95),), "max_hold_s": 20})
    bundle = place.built()
    breaks = {"1-canary": lambda: place.vllm.broken.add(bundle.served_name)}
    outcome = place.release(bundle, breaks, lenient)
    assert (outcome.outcome, outcome.failed_user_requests) == ("rolled_back", 0)
    assert "attempts in a row failed" in outcome.reason
    with GatewayClient(place.admin_url, TOKEN) as client:
        records = client.records(0, 20_000).records
    ours = [record for record in records if record.epoch.startswith(outcome.release_id)]
    asked = [record for record in ours if record.role == "served" and record.error not in ("", "tripped")]
    assert 5 <= len(asked) <= 6  # five that tripped it; of the two who ask, the other may have been under way
    assert place.failed == []


@pytest.mark.parametrize(("preferred", "outcome"), [("new", "live"), ("old", "rolled_back")])
def test_a_judge_decides_on_what_the_gateway_kept_of_both_answers(place: Place, preferred: str, outcome: str) -> None:
    bundle = place.built()
    place.vllm.says = {"base": "an old answer", bundle.served_name: "a new answer"}
    shadow = PLAN.stages[0].model_copy(update={"mirror_bp": 10_000})
    judged = {"checks": (*PLAN.checks, Check(metric="judge", max=0.8, stages=("shadow",)))}
    with StubJudge(prefers(preferred)) as judge:
        plan = PLAN.model_copy(
            update=judged
            | {
                "stages": (shadow, *PLAN.stages[1:]),
                "judge": Judge(base_url=judge.url, model="wise", pairs_per_tick=20),
            }
        )
        done = place.release(bundle, plan=plan)
    place.vllm.says = {}
    assert (done.outcome, done.failed_user_requests) == (outcome, 0)
    assert {shown["conversation"][0]["content"] for shown in judge.shown} == {"1 + 1?"}
    assert {shown["answer_A"] for shown in judge.shown} == {"an old answer", "a new answer"}
    with GatewayClient(place.admin_url, TOKEN) as client:
        assert client.pairs(0).pairs == ()


def test_a_gateway_killed_in_canary_comes_back_and_the_release_goes_on(place: Place) -> None:
    def kill() -> None:
        assert place.gateway is not None
        place.gateway.send_signal(signal.SIGKILL)
        place.gateway.wait()
        place.start_gateway()

    outcome = place.release(place.built(), {"1-canary": kill})
    assert outcome.outcome == "live"


def test_a_gateway_of_two_workers_is_released_to_like_one_and_a_worker_that_dies_costs_what_it_had(
    tmp_path: Path,
) -> None:
    with asked_place(tmp_path, workers=2) as place:

        def kill_one() -> None:
            assert place.gateway is not None
            psutil.Process(place.gateway.pid).children()[0].kill()

        bundle = place.built()
        outcome = place.release(bundle, {"1-canary": kill_one})
        assert outcome.outcome == "live"
        assert len(place.failed) <= 2  # of the two who ask
        assert outcome.user_requests > 30
        assert outcome.failed_user_requests <= len(place.failed)


def test_a_candidate_that_breaks_is_off_in_both_workers_of_a_gateway_soon(tmp_path: Path) -> None:
    with asked_place(tmp_path, workers=2) as place:
        bundle = place.built()
        outcome = place.release(bundle, {"1-canary": lambda: place.vllm.broken.add(bundle.served_name)})
        assert (outcome.outcome, outcome.failed_user_requests) == ("rolled_back", 0)
        assert outcome.breach_to_stable_s is not None
        assert (
            outcome.breach_to_stable_s < SOON_S
        )  # its users are gone at once; the proof comes by copies, one a second
        assert place.failed == []


def test_a_controller_killed_in_canary_leaves_all_traffic_on_stable_within_the_lease(place: Place) -> None:
    bundle = place.built()
    command = [sys.executable, str(SUPPORT / "release_child.py"), str(place.home), place.admin_url]
    command += [str(place.vllm.server.server_port), bundle.digest, "1-canary"]
    child = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300, check=False)
    assert child.returncode == -signal.SIGKILL
    with GatewayClient(place.admin_url, TOKEN) as client:
        assert (client.records(0, 1).lease_remaining_s or 0) <= PLAN.lease_s
        deadline = time.monotonic() + 120
        while client.records(0, 1).lease_remaining_s:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ended_at, last = time.time(), client.records(0, 1).last_seq
        while not (fresh := [one for one in client.records(last).records if one.started_at > ended_at][:20]):
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert {record.variant for record in fresh} == {base_bundle().variant_name}
    outcome = place.release(bundle)  # at once: the owner of the lease is known to be dead
    assert outcome.outcome == "live"
    assert place.failed == []


@pytest.mark.parametrize(("is_bad", "outcome"), [(False, "live"), (True, "rolled_back")])
def test_the_replay_of_a_releases_own_log_decides_what_the_controller_decided(
    tmp_path: Path, is_bad: bool, outcome: str
) -> None:
    settings, plan, traffic = tmp_path / "log.yaml", tmp_path / "rollout.yaml", tmp_path / "traffic"
    settings.write_text(json.dumps({"folder": str(traffic)}))
    # A replay's ticks fall elsewhere, and with them its blocks of users: its evidence differs by a factor of up to some
    # hundreds. So a stage is long enough to decide for both; and as the log of a bad candidate ends with the proof,
    # its replay may not need as much.
    canary = PLAN.stages[1].model_copy(update={"min_duration_s": 60.0 if is_bad else 4.0})
    alpha, again_alpha = (1e-4, 0.05) if is_bad else (1e-6, 1e-6)
    used = PLAN.model_copy(update={"alpha": alpha, "stages": (PLAN.stages[0], canary, PLAN.stages[2])})
    plan.write_text(used.model_copy(update={"alpha": again_alpha}).model_dump_json())
    with asked_place(tmp_path, settings) as place:
        bundle = place.built()
        breaks = threading.Timer(1.5, place.vllm.broken.add, [bundle.served_name])
        done = place.release(bundle, {"1-canary": breaks.start} if is_bad else None, used)
    assert done.outcome == outcome
    again = replay_log(traffic, plan)
    assert (again.candidate, again.stable) == (bundle.variant_name, base_bundle().variant_name)
    assert again.outcome == outcome
    assert [(stage.stage, stage.verdict) for stage in again.stages] == [(s.stage, s.verdict) for s in done.stages]
