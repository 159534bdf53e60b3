"""Fixtures for the gateway's tests: an event loop beside the test, and a world that lives in it."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import uvloop
from gateway_world import World


@pytest.fixture(scope="session")
def event_loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


@pytest.fixture
def world(event_loop_thread: asyncio.AbstractEventLoop) -> Iterator[World]:
    world = World(event_loop_thread)
    yield world
    world.do(world.stack.aclose())
