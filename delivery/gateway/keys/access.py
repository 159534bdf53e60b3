"""API keys: who asks, what they may ask for, and what is left of their budgets.

A key is 32 random bytes, so that one SHA-256 of it tells nothing about it and is found by a plain look-up.

Tokens are known when an answer ends, too late for requests that run side by side: what a request may take is set aside
when it begins, and settled by what the model counted.
"""

import hashlib
import logging
import sys
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.api_keys import ApiKey, ApiKeys
from configs.loading import load
from configs.routing import RoutingTable
from delivery.gateway.keys.budgets import Budget
from delivery.gateway.openai.errors import ApiError
from delivery.gateway.table.served import Clock

log = logging.getLogger("slipway.gateway")
MINUTE_S, DAY_S = 60.0, 86_400.0
REQUESTS, TOKENS, TOKENS_A_DAY = "requests_per_minute", "tokens_per_minute", "tokens_per_day"
Spent = dict[str, dict[str, float]]  # by client and limit: what is missing to the full budget


def read_keys(path: Path) -> ApiKeys:
    """The keys out of a YAML file. Raises ConfigError that lists every problem."""
    return load(path, ApiKeys)


@dataclass(slots=True)
class Client:
    """One entry of the file, with what it has spent."""

    key: ApiKey
    requests: Budget | None
    tokens: dict[str, Budget]  # by limit
    under_way: int = 0
    least_full: int = sys.maxsize  # the smallest of the full budgets of tokens

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.key.name

    def may_ask(self, route: str) -> bool:
        """Whether the route is within the key's scope."""
        return self.key.routes is None or route in self.key.routes

    def at_most(self, tokens: int) -> int:
        """This many, or as many as the smallest of the full budgets."""
        return tokens if tokens < self.least_full else self.least_full

    def budgets(self) -> dict[str, Budget]:
        """All that refill, by limit."""
        return self.tokens | ({REQUESTS: self.requests} if self.requests is not None else {})


class Keys:
    """The clients that are let in. Without a file (`required=False`) everybody is."""

    def __init__(self, required: bool, monotonic: Clock, wall: Clock):
        self._required = required
        self._monotonic = monotonic
        self._wall = wall
        self._by_digest: dict[str, Client] = {}
        self._by_name: dict[str, Client] = {}

    def replace(self, keys: ApiKeys) -> None:
        """These hold from now on; a client that stays keeps what it has spent."""
        now, former = self._monotonic(), self._by_name
        self._by_name = {key.name: _client(key, former.get(key.name), now) for key in keys.keys}
        self._by_digest = {digest: client for client in self._by_name.values() for digest in client.key.sha256}

    def check_testers(self, table: RoutingTable) -> None:
        """Says in the log which testers of this table are nobody's users."""
        names = {name for route in table.routes.values() for name in route.testers} if self._required else set()
        if strangers := sorted(name for name in names if name.partition("/")[0] not in self._by_name):
            log.warning(
                "testers who are no API key's users get no variant of their own: call them <key's name>/<user>",
                extra={"testers": strangers[:10]},
            )

    def identify(self, headers: Mapping[str, str]) -> Client | None:
        """Who asks; None where no keys are required. Raises ApiError (401)."""
        if not self._required:
            return None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(sent.strip().encode("utf-8", "surrogatepass")).hexdigest()
        client = self._by_digest.get(digest) if scheme.lower() == "bearer" else None
        if client is None:
            raise ApiError(401, "A valid API key is needed: Authorization: Bearer <key>.", code="invalid_api_key")
        expiry = client.key.expires_at
        if expiry is not None and self._wall() >= expiry.timestamp():
            raise ApiError(401, f"This API key expired at {expiry.isoformat()}.", code="invalid_api_key")
        return client

    def begin(self, client: Client) -> Awaitable[None] | None:
        """One request of the client's begins, once what is returned has been waited for, if it is anything.

        Raises ApiError (429) with the seconds to wait.
        """
        now = self._monotonic()
        most = client.key.concurrent_requests
        if most is not None and client.under_way >= most:
            raise too_many_at_once(most)
        self._must_have(client, 1, now)
        if client.requests is not None:
            if wait_s := client.requests.wait_s(1, now):
                raise too_many_requests(client.requests, wait_s)
            client.requests.spend(1, now)
        client.under_way += 1
        return None

    @staticmethod
    def _must_have(client: Client, tokens: int, now: float) -> None:
        for limit, budget in client.tokens.items():
            if wait_s := budget.wait_s(tokens, now):
                raise too_many_tokens(client, limit, wait_s)

    def hold(self, client: Client, tokens: int, least: int) -> int | Awaitable[int]:
        """Sets aside what a request of the client's may take, a full budget at most: how much that is, now or later.

        `least`: must be left where nothing else of the client's is under way: what nobody has limited seldom takes all
        that it may. Raises ApiError (429) with the seconds to wait.
        """
        tokens = client.at_most(tokens)
        self._must_have(client, client.at_most(least) if client.under_way == 1 else tokens, self._monotonic())
        self._spend(client, tokens)
        return tokens

    def end(self, client: Client, held: int, taken: int) -> None:
        """The request is over, however it went. In tokens: what was set aside for it, and what it took."""
        client.under_way -= 1
        if client.tokens and taken != held:
            self._spend(client, taken - held)

    def _spend(self, client: Client, tokens: int) -> None:
        now = self._monotonic()
        for budget in client.tokens.values():
            budget.spend(tokens, now)

    def client(self, name: str) -> Client | None:
        """The client of this name."""
        return self._by_name.get(name)

    def spent(self) -> Spent:
        """What clients have spent and has not refilled yet."""
        now, found = self._monotonic(), {}
        for name, client in self._by_name.items():
            amounts = {limit: budget.spent(now) for limit, budget in client.budgets().items()}
            if amounts := {limit: amount for limit, amount in amounts.items() if amount > 0}:
                found[name] = amounts
        return found

    def restore(self, spent: Spent, age_s: float) -> None:
        """Takes up what was spent so many seconds ago, before anybody spends here."""
        now = self._monotonic()
        for name, amounts in spent.items():
            budgets = client.budgets() if (client := self._by_name.get(name)) is not None else {}
            for limit, amount in amounts.items():
                if (budget := budgets.get(limit)) is not None:
                    budget.spend(max(0.0, amount - age_s * budget.capacity / budget.refill_s), now)


def _client(key: ApiKey, former: Client | None, now: float) -> Client:
    """The entry's client: its former self, since requests are under way, with what it has spent."""
    client = former or Client(key, None, {})
    spent = client.tokens
    client.key = key
    client.requests = _budget(key.requests_per_minute, MINUTE_S, client.requests, now)
    limits = {TOKENS: (key.tokens_per_minute, MINUTE_S), TOKENS_A_DAY: (key.tokens_per_day, DAY_S)}
    budgets = {limit: _budget(most, refill_s, spent.get(limit), now) for limit, (most, refill_s) in limits.items()}
    client.tokens = {limit: budget for limit, budget in budgets.items() if budget is not None}
    client.least_full = min([int(budget.capacity) for budget in client.tokens.values()], default=sys.maxsize)
    return client


def _budget(capacity: int | None, refill_s: float, former: Budget | None, now: float) -> Budget | None:
    if capacity is None:
        return None
    return former.resized(capacity, now) if former else Budget.full(capacity, refill_s, now)


def too_many_requests(budget: Budget, wait_s: float) -> ApiError:
    """The client's requests per minute are used up."""
    return _too_much(f"{budget.capacity:.0f} requests per minute", wait_s, "requests")


def too_many_tokens(client: Client, limit: str, wait_s: float) -> ApiError:
    """The client's tokens per minute, or per day, are used up."""
    budget = client.tokens.get(limit)
    period = "day" if limit == TOKENS_A_DAY else "minute"
    what = f"{budget.capacity:.0f} tokens per {period}" if budget is not None else "tokens"
    return _too_much(what, wait_s, "tokens")


def too_many_at_once(most: int) -> ApiError:
    """As many of the client's requests are under way as may be."""
    return _too_much(f"{most} requests at once", 1.0, "requests")


def _too_much(limit: str, wait_s: float, kind: str) -> ApiError:
    return ApiError(
        429, f"This API key's limit is reached: {limit}.", code="rate_limit_exceeded", kind=kind, retry_after_s=wait_s
    )
