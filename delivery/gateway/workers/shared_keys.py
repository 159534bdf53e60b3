"""API keys in one of several workers: what it may let in is lent by the fleet, and what it does not use goes back.

A worker asks when it has nothing left, so that a client over its budget costs a call now and then and no more.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from delivery.gateway.keys.access import Client, Keys, too_many_at_once, too_many_requests, too_many_tokens
from delivery.gateway.openai.errors import ApiError
from delivery.gateway.table.served import Clock
from delivery.gateway.workers.bank import Loan, TokenLoan

REFUSED_S = 0.1  # a refusal is believed for this long
Ask = Callable[[str, bool, bool], Awaitable[Loan]]  # client, request, slot
AskTokens = Callable[[str, int, int], Awaitable[TokenLoan]]  # client, need, wish
Returned = dict[str, tuple[int, int, int]]  # by client: requests, slots, and tokens (below 0: debts)


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
    tokens: int = 0  # below 0: answers took more than was set aside for them
    tokens_used: int = 0  # set aside since the last return
    tokens_wanted: int = 0  # by the requests that wait for the loan under way
    asking_tokens: asyncio.Task[None] | None = None
    denied: int = 0  # so many tokens were refused at last
    denied_until: float = float("-inf")
    denial: TokenLoan = field(default_factory=TokenLoan)

    def spare(self, under_way: int, kept: int, tokens_kept: int) -> tuple[int, int, int]:
        """Takes out, and returns, the requests, slots and tokens beyond so many; and all debts."""
        kept, tokens_kept = max(kept, self.waiting), max(tokens_kept, self.tokens_wanted)
        requests, slots = max(0, self.requests - kept), max(0, self.slots - under_way - kept)
        tokens = min(self.tokens, max(0, self.tokens - tokens_kept))
        self.requests -= requests
        self.slots -= slots
        self.tokens -= tokens
        return requests, slots, tokens


class SharedKeys(Keys):
    """`ask` and `ask_tokens` borrow from the fleet."""

    def __init__(self, required: bool, monotonic: Clock, wall: Clock, ask: Ask, ask_tokens: AskTokens):
        super().__init__(required, monotonic, wall)
        self._ask = ask
        self._ask_tokens = ask_tokens
        self._purses: defaultdict[str, Purse] = defaultdict(Purse)

    async def begin(self, client: Client) -> None:
        """One request of the client's begins. Raises ApiError (429) with the seconds to wait."""
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

    def end(self, client: Client, held: int, taken: int) -> None:
        """The request is over; whoever was refused a place may ask again."""
        super().end(client, held, taken)
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

    async def hold(self, client: Client, tokens: int, least: int) -> int:
        """Sets aside what a request of the client's may take, as far as it is there. Raises ApiError (429).

        `least` must be there where nothing else of the client's is under way in this worker, as in `Keys.hold`.
        """
        tokens, purse = client.at_most(tokens), self._purses[client.name]
        needed = client.at_most(least) if client.under_way == 1 else tokens
        while purse.tokens < needed:
            _check_denial(client, purse, needed)
            purse.tokens_wanted += tokens
            try:
                if purse.asking_tokens is None:
                    purse.asking_tokens = asyncio.create_task(self._borrow_tokens(client, purse, needed))
                await asyncio.shield(purse.asking_tokens)
            finally:
                purse.tokens_wanted -= tokens
        tokens = min(tokens, purse.tokens)
        purse.tokens_used += tokens
        self._spend(client, tokens)
        return tokens

    async def _borrow_tokens(self, client: Client, purse: Purse, tokens: int) -> None:
        try:
            need = tokens - purse.tokens
            if need <= 0:  # an answer has just left enough
                return
            wish = max(tokens, purse.tokens_wanted) + purse.tokens_used - purse.tokens
            loan = await self._ask_tokens(client.name, client.at_most(need), wish)
            purse.tokens += loan.tokens
            if not loan.tokens:
                purse.denied, purse.denial = tokens, loan
                purse.denied_until = asyncio.get_running_loop().time() + REFUSED_S
        finally:
            purse.asking_tokens = None

    def _spend(self, client: Client, tokens: int) -> None:
        self._purses[client.name].tokens -= tokens

    def spare(self) -> Returned:
        """What was not needed of late, of all clients; to be asked regularly."""
        found = {}
        for name, purse in self._purses.items():
            if any(spare := purse.spare(self._under_way(name), purse.used, purse.tokens_used)):
                found[name] = spare
            purse.used = purse.tokens_used = 0
        return found

    def recalled(self, name: str) -> tuple[int, int, int]:
        """All that this client does not need right now, since another worker has nothing left."""
        return self._purses[name].spare(self._under_way(name), 0, 0) if name in self._purses else (0, 0, 0)

    def _under_way(self, name: str) -> int:
        client = self.client(name)
        return client.under_way if client is not None else 0


def _lacks(client: Client, purse: Purse) -> tuple[bool, bool]:
    """Whether a request, and a slot, must be borrowed."""
    slot = client.key.concurrent_requests is not None and purse.slots <= client.under_way
    return client.requests is not None and purse.requests < 1, slot


def _check_denial(client: Client, purse: Purse, tokens: int) -> None:
    """Raises ApiError if so many were refused a moment ago."""
    is_fresh = asyncio.get_running_loop().time() < purse.denied_until
    if is_fresh and purse.denied <= tokens and purse.tokens < tokens:
        raise too_many_tokens(client, purse.denial.limit, purse.denial.wait_s or 1.0)


def _refusal(client: Client, purse: Purse, *, request: bool) -> ApiError:
    if request and client.requests is not None:
        return too_many_requests(client.requests, purse.wait_s or 1.0)
    return too_many_at_once(client.key.concurrent_requests or 0)
