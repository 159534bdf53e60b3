"""Log-ins that fail: counted, said in the log now and then, and answered later where they come again and again."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from delivery.gateway.seldom import Seldom

FREE = 5  # failures within FORGOTTEN_S that are answered at once
FORGOTTEN_S = 60.0
DELAY_S = 1.0
ADDRESSES = 10_000  # remembered
WAITING = 256  # answers held back at once; more are given at once


class LogIns:
    """Those of one listener."""

    def __init__(self, listener: str, monotonic: Callable[[], float] = time.monotonic):
        self.failures = 0
        self._monotonic = monotonic
        self._line = Seldom(f"log-ins failed on the {listener} listener", monotonic=monotonic)
        self._by_address: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, how many
        self._waiting = 0

    async def failed(self, address: str) -> None:
        """One more from this address; returns when it may be answered."""
        self.failures += 1
        self._line.warn(address=address, failures=self.failures)
        now = self._monotonic()
        since, count = self._by_address.pop(address, (now, 0))
        if now - since > FORGOTTEN_S:
            since, count = now, 0
        self._by_address[address] = since, count + 1
        if len(self._by_address) > ADDRESSES:
            self._by_address.popitem(last=False)
        if count >= FREE and self._waiting < WAITING:
            self._waiting += 1
            try:
                await asyncio.sleep(DELAY_S)
            finally:
                self._waiting -= 1
