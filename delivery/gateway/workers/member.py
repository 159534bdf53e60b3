"""A worker's side of the fleet: serves what the fleet serves, and tells what happens here.

When the link ends, the fleet is gone: the worker finishes what it has begun and ends too, since nobody could take a
candidate's share away from it any more.
"""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

from configs.api_keys import ApiKeys
from configs.errors import SlipwayError
from configs.routing import RoutingTable
from delivery.gateway.keys.access import Keys
from delivery.gateway.openai.errors import ApiError
from delivery.gateway.records.exposition import STANDING
from delivery.gateway.records.feedback import FoundAnswer, Opinion
from delivery.gateway.table.served import Clock
from delivery.gateway.workers.bank import Loan, TokenLoan
from delivery.gateway.workers.link import Link, LinkError, linked
from delivery.gateway.workers.merged_metrics import as_page
from delivery.gateway.workers.shared_keys import SharedKeys

if TYPE_CHECKING:
    from delivery.gateway.parts import Gateway

JOINS_S = 60.0
ASKS_S = 5.0
BORROWS_S = 30.0  # the fleet answers within a second; what it lends must not be lost on the way


class Member:
    """One worker's membership. `end`: its end of the socket pair."""

    def __init__(self, end: socket.socket):
        self._end = end
        self._link: Link | None = None
        self._keys: SharedKeys | None = None
        self._told = asyncio.Event()
        self.ended = asyncio.Event()

    def keys(self, required: bool, monotonic: Clock, wall: Clock) -> Keys:
        """The API keys, with budgets that all workers share."""
        self._keys = SharedKeys(required, monotonic, wall, self._borrow, self._borrow_tokens)
        return self._keys

    async def join(self, stack: contextlib.AsyncExitStack, gateway: "Gateway") -> None:
        """Until the gateway knows what to serve. Raises SlipwayError."""
        handlers = {
            "serve": lambda content: self._serve(gateway, content),
            "sync": lambda content: self._sync(gateway, content),
            "recall": lambda name: self._keys.recalled(name) if self._keys is not None else (0, 0, 0),
            "pairs": lambda content: gateway.pairs.read(*content),
            "feedback": lambda content: _take(gateway, content),
        }
        self._link = await linked(self._end, handlers)
        task = asyncio.create_task(self._follow(self._link))
        stack.callback(task.cancel)
        try:
            async with asyncio.timeout(JOINS_S):
                await self._told.wait()
        except TimeoutError:
            raise SlipwayError("this worker was not told what to serve", cure="see the log of the fleet") from None

    async def ready(self) -> None:
        """Tells the fleet that users are answered here."""
        with contextlib.suppress(LinkError):
            await self._fleet.call("ready", None, ASKS_S)

    async def feedback(self, opinion: Opinion, client: str | None) -> FoundAnswer | None:
        """Brings it to the worker that answered the request; None: nobody knows it. Raises ApiError."""
        try:
            told = await self._fleet.call("feedback", [opinion.model_dump(), client], ASKS_S)
        except LinkError:
            raise ApiError(503, "This feedback cannot be taken now.", code="overloaded", retry_after_s=1) from None
        if told is not None and "refused" in told:
            refused = told["refused"]
            raise ApiError(told["status"], refused["message"], code=refused["code"], param=refused["param"])
        return told["answer"] if told is not None else None

    @property
    def _fleet(self) -> Link:
        if self._link is None:
            raise LinkError("this worker has not joined yet")
        return self._link

    async def _follow(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            self.ended.set()

    async def _borrow(self, client: str, request: bool, slot: bool) -> Loan:
        try:
            return Loan(*await self._fleet.call("borrow", [client, request, slot], BORROWS_S))
        except LinkError:
            return Loan(wait_s=1.0)

    async def _borrow_tokens(self, client: str, need: int, wish: int) -> TokenLoan:
        try:
            return TokenLoan(*await self._fleet.call("borrow_tokens", [client, need, wish], BORROWS_S))
        except LinkError:
            return TokenLoan(wait_s=1.0)

    def _serve(self, gateway: "Gateway", content: dict[str, Any]) -> None:
        """What is served from now on; what is not named stays."""
        if (keys := content.get("keys")) is not None:
            gateway.keys.replace(ApiKeys.model_validate(keys))
        if (table := content.get("table")) is not None:
            until = content["lease_until"]
            gateway.tables.adopt(RoutingTable.model_validate(table), float("inf") if until is None else until)
        self._told.set()

    def _sync(self, gateway: "Gateway", content: dict[str, Any]) -> dict[str, Any]:
        """What the others saw, for what happened here."""
        gateway.breaker.impose(tuple(place) for place in content["tripped"])
        gateway.breaker.heal(tuple(place) for place in content["healed"])
        told: dict[str, Any] = {
            "page": gateway.attempts.page(content["after"], content["limit"]),
            "tripped": gateway.breaker.places(),
        }
        if self._keys is not None:
            told["spare"] = self._keys.spare()
        if content["with_metrics"]:
            families = [family for family in gateway.exposition.collect() if family.name not in STANDING]
            told |= {"metrics": as_page(families), "upstreams": gateway.replicas.page()}
        return told


def _take(gateway: "Gateway", content: Any) -> dict[str, Any]:
    opinion, client = content
    try:
        return {"answer": gateway.feedback.take(Opinion.model_validate(opinion), client)}
    except ApiError as refusal:
        error = refusal.body["error"]
        return {"status": refusal.status, "refused": {key: error[key] for key in ("message", "code", "param")}}
