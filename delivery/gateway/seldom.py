"""Lines in the log that anybody can cause as often as they like: said now and then, with how often they were meant."""

import logging
import time
from collections.abc import Callable

EVERY_S = 10.0
log = logging.getLogger("slipway.gateway")


class Seldom:
    """One kind of line."""

    def __init__(self, message: str, every_s: float = EVERY_S, monotonic: Callable[[], float] = time.monotonic):
        self._message = message
        self._every_s = every_s
        self._monotonic = monotonic
        self._said_at = float("-inf")
        self._left_out = 0

    def warn(self, **about: object) -> None:
        """Says it, unless it was said within the last seconds; then it is only counted."""
        now = self._monotonic()
        if now - self._said_at < self._every_s:
            self._left_out += 1
            return
        log.warning(self._message, extra={**about, "times_since_last": self._left_out + 1})
        self._said_at, self._left_out = now, 0
