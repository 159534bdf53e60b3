"""The real gateway and programmable upstreams, on free ports, in an event loop beside the test."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from stub_upstream import Stub

from configs.routing import RoutingTable
from delivery.clients.gateway import GatewayClient
from delivery.gateway.parts import Gateway
from delivery.gateway.server import serving
from delivery.gateway.settings import Settings
from delivery.traffic.records import Record

TOKEN = "a-token-for-tests-of-32-characters-and-more"
CHAT = {"model": "tutor", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}


@dataclass
class Clock:
    """Both clocks of a gateway; they move when a test moves them."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Running:
    """A gateway, seen from outside."""

    gateway: Gateway
    http: httpx.Client
    admin: GatewayClient
    clock: Clock

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.admin_port}"

    def ask(self, user: str | None = None, **more: Any) -> httpx.Response:
        headers = {"x-slipway-user": user} if user else {}
        return self.http.post("/v1/chat/completions", json=CHAT | more, headers=headers)

    def said(self, user: str | None = None, **more: Any) -> str:
        """The text of a good answer, plain or streamed."""
        response = self.ask(user, **more)
        assert response.status_code == 200, response.text
        if not more.get("stream"):
            return str(response.json()["choices"][0]["message"]["content"])
        return "".join(d["content"] for f in frames(response) for c in f["choices"] if (d := c["delta"]).get("content"))

    def records(self) -> tuple[Record, ...]:
        return self.admin.records(0).records

    def metrics(self) -> str:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return self.http.get(self.admin_url + "/metrics", headers=headers).text

    def wait_for_records(self, count: int) -> tuple[Record, ...]:
        eventually(lambda: self.gateway.attempts.last_seq >= count)
        return self.records()


@dataclass
class World:
    """Where gateways and upstreams run. Everything ends with the test."""

    loop: asyncio.AbstractEventLoop
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(120)

    def upstream(self, port: int = 0, **behaviours: Any) -> Stub:
        stub = Stub(behaviours)
        runner = self.do(stub.start(port))
        self.stack.push_async_callback(runner.cleanup)
        return stub

    def gateway(self, table: RoutingTable | None = None, **settings: Any) -> Running:
        clock = settings.pop("clock", None) or Clock()
        settings["table"] = settings.pop("file", None)
        chosen = Settings(**{"port": 0, "admin_port": 0, "admin_token": TOKEN, "drain_s": 0.2} | settings)
        gateway = self.do(self.stack.enter_async_context(serving(chosen, monotonic=clock, wall=clock)))
        http = httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=60, trust_env=False, verify=False)
        admin = GatewayClient(f"http://127.0.0.1:{gateway.admin_port}", TOKEN, timeout_s=60)
        self.stack.callback(http.close)
        self.stack.callback(admin.close)
        if table is not None:
            admin.put_table(table)
        return Running(gateway, http, admin, clock)

    def gateway_of_file(self, file: Path) -> Running:
        """A gateway whose table somebody edits."""
        return self.gateway(file=file)


def table_for(*upstreams: str, revision: int = 1, **route: Any) -> RoutingTable:
    """Route `tutor` with variants `old` (stable), `new` and `former`; their models are `old-model` and so on."""
    lease_s = route.pop("lease_s", 15.0)
    variants = {name: {"model": f"{name}-model", "upstreams": upstreams} for name in ("old", "new", "former")}
    for name, fields in route.pop("variants", {}).items():
        variants[name] = variants.get(name, {}) | fields
    policy = {"show_variant": True} | route.pop("policy", {})
    tutor = {"salt": "pepper", "epoch": "e1", "stable": "old", "variants": variants, "policy": policy} | route
    return RoutingTable.model_validate({"revision": revision, "lease_s": lease_s, "routes": {"tutor": tutor}})


def all_to_new(**more: Any) -> dict[str, Any]:
    """Every user is the candidate's."""
    return {"candidate": {"variant": "new", "share_bp": 10_000}} | more


def frames(response: httpx.Response) -> list[dict[str, Any]]:
    """The JSON frames of an event stream, which must end with [DONE]."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]", lines
    return [json.loads(line) for line in lines[:-1]]


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for something that happens in another thread."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.002)


QUICK = {  # yet not so quick that a machine that pauses for a moment makes a good answer late
    "connect_timeout_s": 2.0,
    "first_byte_timeout_s": 1.0,
    "idle_timeout_s": 0.75,
    "answer_timeout_s": 0.75,
}
