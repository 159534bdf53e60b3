"""A fleet whose workers are gateways in one event loop, each on a port of its own so that a test can choose."""

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
from gateway_world import CHAT, TOKEN, Clock, World, eventually

from configs.routing import RoutingTable
from delivery.clients.gateway import GatewayClient
from delivery.gateway.parts import Gateway
from delivery.gateway.server import serving
from delivery.gateway.settings import Settings
from delivery.gateway.workers.fleet import Fleet
from delivery.gateway.workers.member import Member
from delivery.gateway.workers.serving import admin_listener


@dataclass
class OneWorker:
    gateway: Gateway
    http: httpx.Client
    life: AsyncExitStack


@dataclass
class RunningFleet:
    """`workers` by their number; all of them share the clock."""

    world: World
    fleet: Fleet
    clock: Clock
    settings: Settings
    admin_url: str = ""
    workers: dict[int, OneWorker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        port = self.world.do(admin_listener(self.world.stack, self.settings, self.fleet, None))
        self.admin_url = f"http://127.0.0.1:{port}"
        self.admin = GatewayClient(self.admin_url, TOKEN, timeout_s=60)
        self.world.stack.callback(self.admin.close)

    def start(self, number: int) -> None:
        gateway, life = self.world.do(self._start(number))
        http = httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=60, trust_env=False, verify=False)
        self.world.stack.callback(http.close)
        self.workers[number] = OneWorker(gateway, http, life)

    async def _start(self, number: int) -> tuple[Gateway, AsyncExitStack]:
        ours, its = socket.socketpair()
        life = AsyncExitStack()
        self.world.stack.push_async_callback(life.aclose)
        following = asyncio.create_task(self.fleet.follow(number, ours, lambda: None))
        life.push_async_callback(asyncio.wait, [following])
        life.callback(its.close)
        settings = self.settings.model_copy(update={"admin_token": ""})
        gateway = await life.enter_async_context(
            serving(settings, monotonic=self.clock, wall=self.clock, member=Member(its))
        )
        return gateway, life

    def stop(self, number: int) -> None:
        self.world.do(self.workers.pop(number).life.aclose())

    def ask(self, number: int, user: str = "", key: str = "", **more: Any) -> httpx.Response:
        headers = {"x-slipway-user": user} if user else {}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        return self.workers[number].http.post("/v1/chat/completions", json=CHAT | more, headers=headers)

    def variant(self, number: int, user: str = "") -> str:
        response = self.ask(number, user)
        assert response.status_code == 200, response.text
        return response.headers["x-slipway-variant"]

    def rate(self, number: int, request_id: str, rating: int = 1, key: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        opinion = {"request_id": request_id, "rating": rating}
        return self.workers[number].http.post("/v1/feedback", json=opinion, headers=headers)

    def metrics(self) -> dict[str, float]:
        text = httpx.get(self.admin_url + "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60).text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {sample: float(value) for sample, value in pairs}

    def heard(self, count: int) -> None:
        """Waits until so many records (and opinions) are in the one sequence."""
        eventually(lambda: self.admin.records(0).last_seq >= count)


def fleet_of(world: World, count: int, table: RoutingTable | None = None, **more: Any) -> RunningFleet:
    """So many workers, serving this table. `let_in`: who is let in."""
    clock, let_in, kept = Clock(), more.pop("let_in", None), more.pop("records_kept", 1000)
    settings = Settings(port=0, admin_port=0, admin_token=TOKEN, drain_s=0.2, records_kept=kept, **more)
    running = RunningFleet(world, Fleet(count, kept, monotonic=clock, wall=clock), clock, settings)
    if let_in is not None:
        running.fleet.let_in(let_in)
    for number in range(count):
        running.start(number)
    if table is not None:
        running.admin.put_table(table)
    return running
