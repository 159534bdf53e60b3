"""How many requests may be in hand at once, and how many open files they need.

What a request holds - its body while it comes, its prompt, its answer - is bounded in bytes elsewhere; here in number.
"""

import logging
import resource
from dataclasses import dataclass, field

from delivery.gateway.openai.errors import ApiError

log = logging.getLogger("slipway.gateway")
FILES_BESIDES = 100


@dataclass(slots=True)
class Places:
    """One for each request that is whole. Whoever takes one gives it back.

    A client - an API key's name, else an address - may have `most_each` of them: one alone must not take them all.
    """

    most: int
    most_each: int
    taken: int = 0
    by_client: dict[str, int] = field(default_factory=dict)

    def take(self, who: str) -> None:
        """Raises ApiError: 503 where all are taken, 429 where this client has as many as it may."""
        if self.taken >= self.most:
            raise overloaded()
        mine = self.by_client.get(who, 0)
        if mine >= self.most_each:
            what = f"{self.most_each} of your requests are under way here, which is the most."
            raise ApiError(429, what, code="too_many_requests", kind="requests", retry_after_s=1)
        self.by_client[who] = mine + 1
        self.taken += 1

    def give_back(self, who: str) -> None:
        """The request is over."""
        self.taken -= 1
        if (left := self.by_client[who] - 1) > 0:
            self.by_client[who] = left
        else:
            del self.by_client[who]


def overloaded() -> ApiError:
    """The gateway has as much to do as it may."""
    return ApiError(503, "Too many requests are under way here.", code="overloaded", retry_after_s=1)


def allow_open_files(requests: int, connections: int) -> int:
    """Raises this process' soft limit to its hard one, and says so where that is too few.

    `connections`: of clients; each of the `requests` has one to a replica besides.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = requests + connections + FILES_BESIDES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        cure = f"raise it (ulimit -Hn {wanted}, or LimitNOFILE= of the service), or lower --max-connections"
        log.warning(
            "this process may open too few files for --max-in-flight and --max-connections",
            extra={"max_in_flight": requests, "open_files": hard, "wanted": wanted, "cure": cure},
        )
    return hard
