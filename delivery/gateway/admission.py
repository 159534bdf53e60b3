"""How many requests may be in hand at once, and how many open files they need.

What a request holds - its body while it comes, its prompt, its answer - is bounded in bytes elsewhere; here in number.
"""

import logging
import resource
from dataclasses import dataclass

from delivery.gateway.openai.errors import ApiError

log = logging.getLogger("slipway.gateway")
FILES_EACH = 2  # of a request: its client's connection and its replica's
FILES_BESIDES = 100


@dataclass(slots=True)
class Places:
    """One for each request from its head on. Whoever takes one gives it back: `taken -= 1`."""

    most: int
    taken: int = 0

    def take(self) -> None:
        """Raises ApiError (503) where all are taken."""
        if self.taken >= self.most:
            raise overloaded()
        self.taken += 1


def overloaded() -> ApiError:
    """The gateway has as much to do as it may."""
    return ApiError(503, "Too many requests are under way here.", code="overloaded", retry_after_s=1)


def allow_open_files(requests: int) -> int:
    """Raises this process' soft limit to its hard one, and says so where that is too few for so many requests."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = requests * FILES_EACH + FILES_BESIDES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        cure = f"raise it (ulimit -Hn {wanted}, or LimitNOFILE= of the service), or lower --max-in-flight"
        log.warning(
            "this process may open too few files for --max-in-flight",
            extra={"max_in_flight": requests, "open_files": hard, "wanted": wanted, "cure": cure},
        )
    return hard
