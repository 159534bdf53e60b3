"""API keys in one of several workers: what it may let in is lent by the fleet, and what it does not use goes back.

A worker asks when it has nothing left, so that a client over its budget costs a call now and then and no more.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from delivery.gateway.api_errors import ApiError
from delivery.gateway.keys import Client, Keys, Spent, too_many_at_once, too_many_requests
from delivery.gateway.tables import Clock
from delivery.gateway.workers.bank import Loan

REFUSED_S = 0.1  # a refusal is believed for this long
Ask = Callable[[str, bool, bool], Awaitable[Loan]]  # client, request, slot
Returned = dict[str, tuple[int, int]]  # by client: requests and slots


@dataclass(slots=True)
class Purse:
    """What this worker may still let in of one client."""

    requests: int = 0
    slots: int = 0  # at once
    used: int = 0  # since the last return
    waiting: int = 0  # requests that the loan under way is for
    asking: asyncio.Task[None] | None = None
    refused_until: float = float("-inf")  # by the event loop's clock
    wait_s: float = 0.0  # as the last loan said

    def spare(self, under_way: int, kept: int) -> tuple[int, int]:
        """Takes out, and returns, the requests and slots beyond so many."""
        kept = max(kept, self.waiting)
        requests, slots = max(0, self.requests - kept), max(0, self.slots - under_way - kept)
        self.requests -= requests
        self.slots -= slots
        return requests, slots


class SharedKeys(Keys):
    """`ask` borrows from the fleet."""

    def __init__(self, required: bool, monotonic: Clock, wall: Clock, ask: Ask):
        super().__init__(required, monotonic, wall)
        self._ask = ask
        self._purses: defaultdict[str, Purse] = defaultdict(Purse)
        self._told_later: Spent = {}

    async def begin(self, client: Client) -> None:
        """One request of the client's begins. Raises ApiError (429) with the seconds to wait."""
        self._check_tokens(client, self._monotonic())
        if client.requests is None and client.key.concurrent_requests is None:
            client.under_way += 1
            return
        purse = self._purses[client.name]
        while True:
            request, slot = _lacks(client, purse)
            if not request and not slot:
                break
            if asyncio.get_running_loop().time() < purse.refused_until:
                raise _refusal(client, purse, request=request)
            purse.waiting += 1
            try:
                if purse.asking is None:
                    purse.asking = asyncio.create_task(self._borrow(client, purse, request, slot))
                await asyncio.shield(purse.asking)
            finally:
                purse.waiting -= 1
        purse.requests -= client.requests is not None
        purse.used += 1
        client.under_way += 1

    def end(self, client: Client) -> None:
        """The request is over; whoever was refused a place may ask again."""
        super().end(client)
        if (purse := self._purses.get(client.name)) is not None and purse.slots > client.under_way:
            purse.refused_until = float("-inf")

    async def _borrow(self, client: Client, purse: Purse, request: bool, slot: bool) -> None:
        try:
            loan = await self._ask(client.name, request, slot)
            purse.requests += loan.requests
            purse.slots += loan.slots
            purse.wait_s = loan.wait_s
            if (request and not loan.requests) or (slot and not loan.slots):
                purse.refused_until = asyncio.get_running_loop().time() + REFUSED_S
        finally:
            purse.asking = None

    def _spend(self, client: Client, tokens: int) -> None:
        super()._spend(client, tokens)
        mine = self._told_later.setdefault(client.name, {})
        for limit in client.tokens:
            mine[limit] = mine.get(limit, 0.0) + tokens

    def spent_since(self) -> Spent:
        """The tokens that this worker's answers took since this was asked last."""
        spent, self._told_later = self._told_later, {}
        return spent

    def spare(self) -> Returned:
        """What was not needed of late, of all clients; to be asked regularly."""
        found = {}
        for name, purse in self._purses.items():
            if any(spare := purse.spare(self._under_way(name), purse.used)):
                found[name] = spare
            purse.used = 0
        return found

    def recalled(self, name: str) -> tuple[int, int]:
        """All that this client does not need right now, since another worker has nothing left: (requests, slots)."""
        return self._purses[name].spare(self._under_way(name), 0) if name in self._purses else (0, 0)

    def _under_way(self, name: str) -> int:
        client = self.client(name)
        return client.under_way if client is not None else 0


def _lacks(client: Client, purse: Purse) -> tuple[bool, bool]:
    """Whether a request, and a slot, must be borrowed."""
    slot = client.key.concurrent_requests is not None and purse.slots <= client.under_way
    return client.requests is not None and purse.requests < 1, slot


def _refusal(client: Client, purse: Purse, *, request: bool) -> ApiError:
    if request and client.requests is not None:
        return too_many_requests(client.requests, purse.wait_s or 1.0)
    return too_many_at_once(client.key.concurrent_requests or 0)
