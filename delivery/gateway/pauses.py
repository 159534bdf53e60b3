"""How long the event loop may be held up by anything but requests."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator

FULL_COLLECTION_S = 60.0
SWITCH_S = 0.0001


@contextlib.asynccontextmanager
async def short_pauses() -> AsyncIterator[None]:
    """Looks for garbage through all records seldom, and never through what is there at the start.

    Python's own rule does both every few thousand requests, and all of them wait for it: up to 0.1 s. They would wait
    5 ms for every turn of the traffic log's thread.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 1_000_000)
    collections = asyncio.create_task(_collect())
    try:
        yield
    finally:
        collections.cancel()


async def _collect() -> None:
    while True:
        await asyncio.sleep(FULL_COLLECTION_S)
        gc.collect()
