"""Ids of requests: random, so that nobody guesses another's and samples by their hash are fair."""

import os

BYTES = 12
AT_ONCE = 1024


class Ids:
    """24 hex digits each. The kernel is asked for many at once: each time it is, Python lets other threads go first."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def next(self) -> str:
        """One that no request had before."""
        if not self._left:
            digits = os.urandom(BYTES * AT_ONCE).hex()
            self._left = [digits[at : at + 2 * BYTES] for at in range(0, len(digits), 2 * BYTES)]
        return self._left.pop()
