"""Long work on the ledger in short transactions, so that nobody else waits long for their turn to write."""

import time
from collections.abc import Callable

BUSY_S = 0.15  # so long the work may hold the database before it pauses
PAUSE_S = 0.11  # SQLite asks again every 0.1 s for a database that is locked: whoever waits gets in within one pause


class Turns:
    """`done` is called after each of the transactions, and pauses where the work has held the database for long."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic):
        self._sleep, self._clock = sleep, clock
        self._since = clock()
        self.shared = False  # True: the database lets several write at once, so that nobody has to pause

    def done(self) -> None:
        """A transaction has ended."""
        if not self.shared and self._clock() - self._since >= BUSY_S:
            self._sleep(PAUSE_S)
            self._since = self._clock()
