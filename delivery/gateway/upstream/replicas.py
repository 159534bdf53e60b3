"""Which of a variant's replicas gets a request: one that is up, has the model, and has the least to do."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from configs.routing import RoutingTable, Variant
from delivery.gateway.records.attempts import Attempt
from delivery.gateway.table.served import Clock

SHUNNED_S = 2.0  # a replica that failed a request comes last for this long
HUNG_S = 60.0  # and one that let its time pass, while it answered nobody else either
LACKING_S = 5.0  # a 404 for a model is believed for this long
DOWN_AFTER = 2  # health checks without an answer, in a row


@dataclass(slots=True)
class Replica:
    """What is known of one base URL. `models` is None until a list has come since the table changed."""

    in_flight: int = 0
    silent: int = 0  # health checks in a row
    models: frozenset[str] | None = None
    shunned_until: float = float("-inf")
    contexts: dict[str, int] = field(default_factory=dict)  # tokens that prompt and answer may have, by model
    answered_at: float = float("-inf")  # when an attempt that got an answer ended here last
    lacking: dict[str, float] = field(default_factory=dict)  # model -> until when a 404 counts
    failures: Counter[str] = field(default_factory=Counter)  # that another replica made good, by kind

    @property
    def is_up(self) -> bool:
        """Whether it answers health checks; so it is said until they prove the opposite."""
        return self.silent < DOWN_AFTER

    def lacks(self, model: str, now: float) -> bool:
        """Whether it is known not to have the model."""
        if self.models is not None and model not in self.models:
            return True
        return bool(self.lacking) and self.lacking.get(model, now) > now


class Replicas:
    """All replicas of the served table. `order` and `observe` sit in the way of every request.

    `homes`: how many of a variant's replicas are asked first, None for all of them alike; one of them may have
    `homes_lead` requests more under way than another replica.
    """

    def __init__(self, monotonic: Clock, homes: int | None = None, homes_lead: int = 0):
        self._monotonic = monotonic
        self._homes = homes
        self._homes_lead = homes_lead
        self._turn = itertools.count()
        self._known: dict[str, Replica] = {}
        self._draining: frozenset[str] = frozenset()
        self.generation = 0  # of the table: a list that was asked for under an earlier one says nothing

    def order(self, variant: Variant) -> tuple[str, ...] | list[str]:
        """The replicas to ask, best first: up before silent, then by what they have to do, in turns where equal.

        Without the ones that drain or lack the model, unless there are no others: then a late answer beats none.
        """
        urls = variant.upstreams
        if len(urls) == 1:
            return urls
        now = self._monotonic()
        start = next(self._turn) % len(urls)
        turned = [url for url in urls[start:] + urls[:start] if url not in self._draining]
        able = [url for url in turned if not self.of(url).lacks(variant.model, now)] or turned
        if self._homes is None or self._homes >= len(able):
            return sorted(able, key=lambda url: self._rank(self.of(url), now))
        homes = [url for url in by_nearness(variant.model, urls) if url in able][: self._homes]
        return sorted(able, key=lambda url: self._rank(self.of(url), now, 0 if url in homes else self._homes_lead))

    @staticmethod
    def _rank(replica: Replica, now: float, handicap: int = 0) -> tuple[bool, int]:
        return (not replica.is_up or replica.shunned_until > now, replica.in_flight + handicap)

    def of(self, url: str) -> Replica:
        """The replica of this base URL, known or new."""
        replica = self._known.get(url)
        if replica is None:
            replica = self._known[url] = Replica()
        return replica

    def begin(self, attempt: Attempt, url: str) -> None:
        """The attempt goes to this replica, and not to the one that it went to before."""
        self.observe(attempt)
        attempt.start_over(url)
        self.of(url).in_flight += 1

    def observe(self, attempt: Attempt) -> None:
        """The attempt has ended, or leaves its replica."""
        if attempt.upstream and (replica := self._known.get(attempt.upstream)) is not None:
            replica.in_flight -= 1
            if attempt.ttft_s is not None:
                replica.answered_at = attempt.began + attempt.duration_s
        attempt.upstream = ""

    def failed(self, url: str, kind: str) -> None:
        """Another replica of the variant is asked instead."""
        replica = self.of(url)
        replica.failures[kind] += 1
        replica.shunned_until = self._monotonic() + SHUNNED_S

    def timed_out(self, attempt: Attempt) -> None:
        """The attempt's time has passed without an answer.

        A replica that has answered nobody since the attempt began hangs, whatever its health checks say; one that has
        is only slow with this one.
        """
        replica = self._known.get(attempt.upstream)
        if replica is not None and replica.answered_at < attempt.began:
            replica.shunned_until = self._monotonic() + HUNG_S

    def lacks(self, url: str, model: str) -> None:
        """It answered 404 for this model."""
        self.of(url).lacking[model] = self._monotonic() + LACKING_S

    def context_of(self, variant: Variant) -> int | None:
        """How many tokens prompt and answer of this variant may have together, as far as its replicas have told."""
        least = None
        for url in variant.upstreams:
            replica = self._known.get(url)
            context = replica.contexts.get(variant.model) if replica is not None else None
            if context is not None and (least is None or context < least):
                least = context
        return least

    def checked(
        self,
        url: str,
        is_up: bool,
        models: frozenset[str] | None,
        generation: int,
        contexts: Mapping[str, int] | None = None,
    ) -> None:
        """The result of a health check that began under this generation of the table."""
        replica = self._known.get(url)
        if replica is None or generation != self.generation:
            return
        if contexts:
            replica.contexts = dict(contexts)
        replica.silent = 0 if is_up else replica.silent + 1
        if is_up:
            replica.models = models
            replica.lacking.clear()

    def keep_only(self, table: RoutingTable) -> None:
        """A table is served from now on: whoever put it may have loaded adapters that no list has shown yet."""
        self.generation += 1
        self._draining = frozenset(table.draining)
        wanted = {url for route in table.routes.values() for v in route.variants.values() for url in v.upstreams}
        for url in self._known.keys() - wanted:
            if not self._known[url].in_flight:
                del self._known[url]
        for url in wanted:
            replica = self.of(url)
            replica.models = None
            replica.lacking.clear()

    def known(self) -> Iterable[tuple[str, Replica]]:
        """Every base URL of the table, and those of former tables whose last answers are under way."""
        return tuple(self._known.items())

    def page(self) -> list[dict[str, Any]]:
        """For the admin API."""
        return [
            {
                "url": url,
                "up": replica.is_up,
                "draining": url in self._draining,
                "in_flight": replica.in_flight,
                "models": sorted(replica.models) if replica.models is not None else None,
                "failures": dict(replica.failures),
            }
            for url, replica in sorted(self._known.items())
        ]


@lru_cache(maxsize=4096)
def by_nearness(model: str, urls: tuple[str, ...]) -> tuple[str, ...]:
    """The replicas in an order of the model's own, which every gateway finds alike (rendezvous hashing).

    A replica that comes or goes changes no order among the others. Source: Thaler and Ravishankar, 1998.
    """
    return tuple(sorted(urls, key=lambda url: hashlib.blake2b(f"{model}\n{url}".encode(), digest_size=8).digest()))
