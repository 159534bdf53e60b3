"""The worker processes: started, replaced when they die, and told to stop."""

import asyncio
import contextlib
import logging
import socket
import sys
import time

from configs.errors import SlipwayError
from delivery.gateway.http.listeners import telling_why
from delivery.gateway.workers.fleet import STARTS_S, Fleet

log = logging.getLogger("slipway.gateway")
WORKER = (sys.executable, "-m", "delivery.gateway", "--config", "-", "--worker")
LIVED_S = 10.0  # a worker that lived for so long is replaced at once; others after a pause
PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LAST_WORDS_S = 2.0  # from the end of the link to the end of the process


class WorkerProcesses:
    """`config`: a worker's settings as YAML. Each gets them at its start, whatever a file says by then."""

    def __init__(self, fleet: Fleet, count: int, config: str):
        self._fleet = fleet
        self._config = config.encode()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ready = [asyncio.Event() for _ in range(count)]
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Until all workers answer users. Raises SlipwayError if one of them cannot."""
        self._keepers = [asyncio.create_task(self._keep(index)) for index in range(len(self._ready))]
        all_ready = asyncio.create_task(self._all_ready())
        await asyncio.wait([all_ready, *self._keepers], timeout=STARTS_S, return_when=asyncio.FIRST_COMPLETED)
        if all_ready.done():
            return
        all_ready.cancel()
        for keeper in self._keepers:
            if keeper.done():
                keeper.result()
        raise SlipwayError(f"not all workers could be started within {STARTS_S:g} s", cure="see their log lines above")

    async def _all_ready(self) -> None:
        for event in self._ready:
            await event.wait()

    async def stop(self, seconds: float) -> None:
        """Lets the workers finish what they have begun, and ends those that take longer."""
        self._stopping.set()
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        if not self._keepers:
            return
        _, late = await asyncio.wait(self._keepers, timeout=seconds)
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for keeper in late:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self, index: int) -> None:
        deaths = 0
        while True:
            began = time.monotonic()
            status = await self._live(index)
            if self._stopping.is_set():
                if status != 0:
                    log.error("a worker did not end as it should", extra={"worker": index, "status": status})
                return
            if not self._ready[index].is_set():
                what = f"worker {index} could not be started: it ended with status {status}"
                raise SlipwayError(what, cure="it says why above")
            deaths = 0 if time.monotonic() - began >= LIVED_S else deaths + 1
            pause_s = PAUSES_S[min(deaths, len(PAUSES_S) - 1)]
            log.error("a worker died and is replaced", extra={"worker": index, "status": status, "pause_s": pause_s})
            self._fleet.restarts += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
                    return

    async def _live(self, index: int) -> int | None:
        """One process from its start to its end; its exit status, None if it could not be started."""
        ours, its = socket.socketpair()
        try:
            with its:
                process = await asyncio.create_subprocess_exec(
                    *WORKER,
                    f"{index}:{its.fileno()}",
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=(its.fileno(),),
                )
        except OSError as error:
            ours.close()
            log.error("a worker cannot be started", extra={"worker": index, "cause": str(error)})
            return None
        self._running[index] = process
        try:
            await _told(process, self._config)
            await self._fleet.follow(index, ours, self._ready[index].set)
            await asyncio.wait_for(process.wait(), None if self._stopping.is_set() else LAST_WORDS_S)
        except TimeoutError:
            log.error("a worker says nothing and is ended", extra={"worker": index})
        except Exception:  # whatever it is, there must be a worker
            log.exception("a worker cannot be followed and is ended", extra={"worker": index})
        finally:
            del self._running[index]
            if process.returncode is None:
                process.kill()
        return await process.wait()


async def _told(process: asyncio.subprocess.Process, config: bytes) -> None:
    """Hands the worker its settings; one that died before it read them is seen to have died."""
    if process.stdin is None:
        raise AssertionError("a worker is started with a pipe")
    with contextlib.suppress(ConnectionError):
        process.stdin.write(config)
        await process.stdin.drain()
    process.stdin.close()


def reserve(host: str, port: int, *, is_shared: bool) -> socket.socket:
    """A port that workers will listen on, held while nobody does. Raises SlipwayError if others have it.

    `is_shared`: others may listen there too.
    """
    with telling_why(host, port, "--port"):
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not is_shared and port:
            with socket.socket(family) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    return held
