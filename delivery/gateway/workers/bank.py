"""The budgets of API keys that several workers share: the fleet holds them and lends requests out in small lots.

Requests that are lent are spent; a worker gives back what it does not use, and a worker that dies loses its lot. So all
workers together never let in more than the budget. Tokens are known when an answer ends: each worker tells what it
spent, and hears what the others did; until then (a tenth of a second) a key may overdraw its tokens by that much more.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

from delivery.gateway.keys import REQUESTS, Keys, Spent
from delivery.gateway.tables import Clock

LOTS = 4  # times the workers: how many lots a budget makes


@dataclass(frozen=True)
class Loan:
    """What a worker may let in without asking again. `wait_s`: until there may be more requests."""

    requests: int = 0
    slots: int = 0  # at once
    wait_s: float = 0.0


class Bank:
    """Lends from the budgets of `keys`. A source is one worker process: its successor is another source."""

    def __init__(self, keys: Keys, workers: int, monotonic: Clock):
        self._keys = keys
        self._lots = LOTS * workers
        self._monotonic = monotonic
        self._slots: defaultdict[str, Counter[int]] = defaultdict(Counter)  # lent, by client and source
        self._news: dict[int, Spent] = {}  # what others spent since the source was told

    def began(self, source: int) -> Spent:
        """A worker process that knows nothing yet; what clients have spent until now."""
        self._news[source] = {}
        return self._keys.spent()

    def ended(self, source: int) -> None:
        """The process is no more, and with it what it had under way."""
        self._news.pop(source, None)
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

    def take_back(self, source: int, name: str, requests: int, slots: int) -> None:
        """The worker does not need these any more."""
        client = self._keys.client(name)
        if client is not None and client.requests is not None:
            client.requests.put_back(requests, self._monotonic())
        self._slots[name][source] -= slots
        if self._slots[name][source] <= 0:
            del self._slots[name][source]

    def spent(self, source: int, spent: Spent) -> None:
        """The worker's answers have taken these tokens."""
        for name, amounts in spent.items():
            client = self._keys.client(name)
            for limit, amount in amounts.items():
                if client is not None and limit != REQUESTS and (budget := client.tokens.get(limit)) is not None:
                    budget.spend(amount, self._monotonic())
                for other in self._news.keys() - {source}:
                    told = self._news[other].setdefault(name, {})
                    told[limit] = told.get(limit, 0.0) + amount

    def news(self, source: int) -> Spent:
        """What the others have spent since this was asked last."""
        news, self._news[source] = self._news[source], {}
        return news
