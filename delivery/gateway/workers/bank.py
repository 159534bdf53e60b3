"""The budgets of API keys that several workers share: the fleet holds them and lends requests out in small lots.

What is lent is spent; a worker gives back what it does not use, and a worker that dies loses its lot. So all workers
together never let in more than the budget. Tokens that answers took beyond what was set aside for them are given back
as a debt, within a tenth of a second.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

from delivery.gateway.keys.access import Keys
from delivery.gateway.table.served import Clock

LOTS = 4  # times the workers: how many lots a budget makes


@dataclass(frozen=True)
class Loan:
    """What a worker may let in without asking again. `wait_s`: until there may be more requests."""

    requests: int = 0
    slots: int = 0  # at once
    wait_s: float = 0.0


@dataclass(frozen=True)
class TokenLoan:
    """Tokens that a worker may set aside without asking again. Without any: how long, and because of which limit."""

    tokens: int = 0
    limit: str = ""
    wait_s: float = 0.0


class Bank:
    """Lends from the budgets of `keys`. A source is one worker process: its successor is another source."""

    def __init__(self, keys: Keys, workers: int, monotonic: Clock):
        self._keys = keys
        self._lots = LOTS * workers
        self._monotonic = monotonic
        self._slots: defaultdict[str, Counter[int]] = defaultdict(Counter)  # lent, by client and source

    def ended(self, source: int) -> None:
        """The process is no more, and with it what it had under way."""
        for lent in self._slots.values():
            lent.pop(source, None)

    def lend(self, source: int, name: str, *, request: bool, slot: bool) -> Loan:
        """A lot of each that is wanted, at least one, if there is one."""
        client = self._keys.client(name)
        if client is None:  # the file was edited a moment ago
            return Loan(wait_s=1.0)
        requests, slots, wait_s, budget = 0, 0, 0.0, client.requests
        if request and budget is None:
            requests = 1
        elif request and budget is not None:
            now = self._monotonic()
            wait_s = budget.wait_s(1, now)
            if not wait_s:
                requests = max(1, budget.whole(now) // self._lots)
                budget.spend(requests, now)
        if slot:
            most, lent = client.key.concurrent_requests, self._slots[name]
            free = self._lots if most is None else most - lent.total()
            slots = max(1, free // self._lots) if free > 0 else 0
            lent[source] += slots
        return Loan(requests, slots, wait_s)

    def lend_tokens(self, name: str, need: int, wish: int) -> TokenLoan:
        """As many as are wished, if there are so many; none if there are fewer than are needed."""
        client, now = self._keys.client(name), self._monotonic()
        if client is None:
            return TokenLoan(wait_s=1.0)
        for limit, budget in client.tokens.items():
            if wait_s := budget.wait_s(need, now):
                return TokenLoan(limit=limit, wait_s=wait_s)
        tokens = max(need, min([wish, *(budget.whole(now) for budget in client.tokens.values())]))
        for budget in client.tokens.values():
            budget.spend(tokens, now)
        return TokenLoan(tokens)

    def take_back(self, source: int, name: str, requests: int, slots: int, tokens: int = 0) -> None:
        """The worker does not need these any more. `tokens` below 0 are its debts."""
        client, now = self._keys.client(name), self._monotonic()
        if client is not None:
            if client.requests is not None:
                client.requests.put_back(requests, now)
            for budget in client.tokens.values():
                budget.put_back(tokens, now)
        self._slots[name][source] -= slots
        if self._slots[name][source] <= 0:
            del self._slots[name][source]
