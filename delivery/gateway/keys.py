"""API keys: who asks, what they may ask for, and what is left of their budgets.

A key is 32 random bytes, so that one SHA-256 of it tells nothing about it and is found by a plain look-up. Budgets are
this process's own, and full again after a restart.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.api_keys import ApiKey, ApiKeys
from configs.loading import load
from delivery.gateway.api_errors import ApiError
from delivery.gateway.attempts import Attempt
from delivery.gateway.budgets import Budget
from delivery.gateway.tables import Clock

MINUTE_S, DAY_S = 60.0, 86_400.0
BYTES_PER_TOKEN = 4  # where upstream counted nothing, since the client did not wait for the end


def read_keys(path: Path) -> ApiKeys:
    """The keys out of a YAML file. Raises ConfigError that lists every problem."""
    return load(path, ApiKeys)


@dataclass(slots=True)
class Client:
    """One entry of the file, with what it has spent."""

    key: ApiKey
    requests: Budget | None
    tokens: tuple[Budget, ...]
    under_way: int = 0

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.key.name

    def may_ask(self, route: str) -> bool:
        """Whether the route is within the key's scope."""
        return self.key.routes is None or route in self.key.routes


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

    def begin(self, client: Client) -> None:
        """One request of the client's begins. Raises ApiError (429) with the seconds to wait."""
        now = self._monotonic()
        most = client.key.concurrent_requests
        if most is not None and client.under_way >= most:
            raise _too_much(f"{most} requests at once", 1.0, "requests")
        for budget in client.tokens:
            if wait_s := budget.wait_s(1, now):
                raise _too_much(f"{budget.capacity:.0f} tokens per {_period(budget)}", wait_s, "tokens")
        if client.requests is not None:
            if wait_s := client.requests.wait_s(1, now):
                raise _too_much(f"{client.requests.capacity:.0f} requests per minute", wait_s, "requests")
            client.requests.spend(1, now)
        client.under_way += 1

    def end(self, client: Client) -> None:
        """The request is over, however it went."""
        client.under_way -= 1

    def observe(self, attempt: Attempt) -> None:
        """An attempt has ended: its tokens are spent. Copies are the operator's affair."""
        client = self._by_name.get(attempt.client) if attempt.client else None
        if client is None or not client.tokens or attempt.role == "mirror":
            return
        tokens = attempt.sent_bytes // BYTES_PER_TOKEN + attempt.chunks
        if attempt.prompt_tokens is not None:
            tokens = attempt.prompt_tokens + (attempt.completion_tokens or 0)
        now = self._monotonic()
        for budget in client.tokens:
            budget.spend(tokens, now)


def _client(key: ApiKey, former: Client | None, now: float) -> Client:
    """The entry's client: its former self, since requests are under way, with what it has spent."""
    client = former or Client(key, None, ())
    spent = {budget.refill_s: budget for budget in client.tokens}
    client.key = key
    client.requests = _budget(key.requests_per_minute, MINUTE_S, client.requests, now)
    limits = ((key.tokens_per_minute, MINUTE_S), (key.tokens_per_day, DAY_S))
    budgets = (_budget(limit, refill_s, spent.get(refill_s), now) for limit, refill_s in limits)
    client.tokens = tuple(budget for budget in budgets if budget is not None)
    return client


def _budget(capacity: int | None, refill_s: float, former: Budget | None, now: float) -> Budget | None:
    if capacity is None:
        return None
    return former.resized(capacity, now) if former else Budget.full(capacity, refill_s, now)


def _period(budget: Budget) -> str:
    return "minute" if budget.refill_s == MINUTE_S else "day"


def _too_much(limit: str, wait_s: float, kind: str) -> ApiError:
    return ApiError(
        429, f"This API key's limit is reached: {limit}.", code="rate_limit_exceeded", kind=kind, retry_after_s=wait_s
    )
