"""Several worker processes as one gateway: they are told what to serve, and what they tell becomes one story.

Each worker is heard ten times a second. Records become one sequence, figures one set, and failures in a row are counted
over all of them: a candidate that fails is taken from every worker's users within two hearings.
"""

import asyncio
import logging
import math
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from configs.api_keys import ApiKeys
from delivery.gateway.keys.access import Keys
from delivery.gateway.table.served import Clock, Tables
from delivery.gateway.workers.bank import Bank, Loan
from delivery.gateway.workers.link import Link, LinkError, linked
from delivery.gateway.workers.merged_metrics import MergedMetrics, merged_upstreams
from delivery.gateway.workers.merged_pairs import MergedPairs
from delivery.gateway.workers.merged_records import MergedRecords
from delivery.traffic.breaker import Breaker, VariantEpoch

log = logging.getLogger("slipway.gateway")
HEARD_EVERY_S = 0.1
FIGURES_EVERY_S = 1.0
CONFIRMS_S = 1.0  # what was put
ANSWERS_S = 0.5
STARTS_S = 60.0
HANGS_S = 10.0  # a worker that says nothing for so long answers no user either
PAGE_RECORDS = 2_000
PAGE_PAIRS = 200


@dataclass(eq=False)
class Worker:
    """One process that serves users, as the fleet knows it. Its successor is another one."""

    index: int
    source: int
    link: Link
    is_told: bool = False  # it has answered, and knows what to serve
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    tripped: frozenset[VariantEpoch] = frozenset()  # by what it saw itself
    healed: set[VariantEpoch] = field(default_factory=set)  # of these, what others got answers from since
    upstreams: list[dict[str, Any]] = field(default_factory=list)
    figures_at: float = float("-inf")


class Fleet:
    """All workers of one gateway. `leased=False`: the table is a file's."""

    def __init__(
        self,
        workers: int,
        records_kept: int,
        *,
        leased: bool = True,
        monotonic: Clock = time.monotonic,
        wall: Clock = time.time,
    ):
        self.breaker = Breaker()
        boot_id = secrets.token_hex(8)
        self.records = MergedRecords(records_kept, boot_id)
        self.pairs = MergedPairs(boot_id)
        self.metrics = MergedMetrics()
        self.tables = Tables(
            (self.breaker.keep_only, self.metrics.keep_only, self.pairs.keep_only),
            leased=leased,
            monotonic=monotonic,
            wall=wall,
        )
        self.keys = Keys(True, monotonic, wall)
        self.bank = Bank(self.keys, workers, monotonic)
        self.workers: list[Worker] = []
        self.restarts = self.lost = 0
        self._api_keys: ApiKeys | None = None
        self._sources = 0
        self._reading_pairs = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._monotonic = monotonic
        self._wall = wall

    async def follow(self, index: int, end: socket.socket, on_ready: Callable[[], None]) -> None:
        """Tells the process at the other end what to serve, and hears it, until it is gone or says nothing."""
        worker: Worker
        handlers = {
            "ready": lambda _: on_ready(),
            "borrow": lambda content: self._borrow(worker, *content),
            "borrow_tokens": lambda content: self._borrow_tokens(worker, *content),
            "feedback": lambda content: self._feedback(*content),
        }
        link = await linked(end, handlers)
        reading = asyncio.create_task(link.run())
        self._sources += 1
        worker = Worker(index, self._sources, link)
        self.records.began(worker.source, self._wall())
        self.workers.append(worker)
        try:
            await link.call("serve", self._served(), STARTS_S)
            worker.is_told = True
            while link.is_open:
                await self._hear(worker)
                await asyncio.sleep(HEARD_EVERY_S)
        except LinkError as error:
            log.info("a worker is heard no more", extra={"worker": index, "cause": str(error)})
        finally:
            self._forget(worker)
            link.close()
            reading.cancel()

    def _forget(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.lost += len(self.records.ended(worker.source, self._wall()))
        self.metrics.ended(worker.source)
        self.pairs.ended(worker.source)
        self.bank.ended(worker.source)

    # -- what they serve --------------------------------------------------------------------------------------------

    def let_in(self, keys: ApiKeys) -> None:
        """These API keys hold from now on, in every worker a moment later."""
        self.keys.replace(keys)
        self._api_keys = keys

    async def spread(self) -> str:
        """Brings every worker what is served now; who has not confirmed it within a second, or ""."""
        served = self._served()
        workers = tuple(self.workers)
        told = await asyncio.gather(*(self._tell(worker, served) for worker in workers))
        silent = [str(worker.index) for worker, is_told in zip(workers, told, strict=True) if not is_told]
        if not silent:
            return ""
        return (
            f"revision {self.tables.revision} is served, but these workers have not confirmed it yet:"
            f" {', '.join(silent)}; they get it before their next request, or are replaced"
        )

    async def _tell(self, worker: Worker, served: dict[str, Any]) -> bool:
        if not worker.is_told:  # it starts, and takes this in before it listens
            worker.link.tell("serve", served)
            return True
        try:
            await worker.link.call("serve", served, CONFIRMS_S)
        except LinkError:
            return not worker.link.is_open  # one that is gone serves nothing else; its successor is told first of all
        return True

    def _served(self) -> dict[str, Any]:
        table, until = self.tables.table, self.tables.lease_until
        return {
            "keys": self._api_keys.model_dump(mode="json") if self._api_keys is not None else None,
            "table": table.model_dump(mode="json") if table is not None else None,
            "lease_until": until if math.isfinite(until) else None,
        }

    # -- what they tell ---------------------------------------------------------------------------------------------

    async def refresh(self) -> str:
        """Hears every worker now; one that does not answer soon is heard when it does."""
        await self._of_all(self._hear(worker, is_asked=True) for worker in self.workers if worker.is_told)
        return ""

    async def _of_all(self, calls: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Waits for the calls, not for long; none is broken off, since its answer may give something back."""
        tasks = [asyncio.create_task(call) for call in calls]
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._is_done)
        if tasks:
            await asyncio.wait(tasks, timeout=ANSWERS_S)

    def _is_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, LinkError):  # a worker that is gone is replaced elsewhere
            log.error("a worker could not be heard", exc_info=error)

    def page(self) -> list[dict[str, Any]]:
        """What the workers know of the replicas, for the admin API."""
        return merged_upstreams([worker.upstreams for worker in self.workers])

    async def read(self, after: int, limit: int) -> dict[str, Any]:
        """Both answers to mirrored requests, for the admin API."""
        async with self._reading_pairs:
            await self._of_all(self._hear_pairs(worker) for worker in self.workers if worker.is_told)
        return self.pairs.page(after, limit)

    async def _hear_pairs(self, worker: Worker) -> None:
        last = math.inf
        while worker in self.workers and self.pairs.cursor(worker.source) < last:
            page = await worker.link.call("pairs", [self.pairs.cursor(worker.source), PAGE_PAIRS], HANGS_S)
            last = page["last_seq"] if page["pairs"] else 0
            if worker in self.workers:
                self.pairs.add(worker.source, page, self.tables.table)

    async def _hear(self, worker: Worker, *, is_asked: bool = False) -> None:
        async with worker.turn:
            with_metrics = is_asked or self._monotonic() - worker.figures_at >= FIGURES_EVERY_S
            while worker in self.workers:
                await self._hear_once(worker, with_metrics=with_metrics)
                with_metrics = False
                if worker in self.workers and not self.records.is_behind(worker.source):
                    return

    async def _hear_once(self, worker: Worker, *, with_metrics: bool) -> None:
        source = worker.source
        healed, worker.healed = worker.healed, set()
        said = {
            "after": self.records.cursor(source),
            "limit": PAGE_RECORDS,
            "tripped": self.breaker.places(),
            "healed": sorted(healed),
            "with_metrics": with_metrics,
        }
        try:
            told = await worker.link.call("sync", said, HANGS_S)
        except LinkError:
            worker.link.close()  # it hangs or is gone: nobody else waits for it
            raise
        if worker not in self.workers:
            return
        worker.tripped = frozenset((route, variant, epoch) for route, variant, epoch in told["tripped"])
        for record in self.records.add(source, told["page"]):
            self.breaker.observe(record)
            if record.ok and not record.error:
                self._heal(worker, (record.route, record.variant, record.epoch))
        for name, spare in told["spare"].items():
            self.bank.take_back(source, name, *spare)
        if with_metrics:
            worker.figures_at = self._monotonic()
            worker.upstreams = told["upstreams"]
            self.metrics.add(source, told["metrics"])

    def _heal(self, answered: Worker, place: VariantEpoch) -> None:
        for worker in self.workers:
            if worker is not answered and place in worker.tripped:
                worker.healed.add(place)

    # -- what they ask ----------------------------------------------------------------------------------------------

    async def _borrow(self, worker: Worker, name: str, request: bool, slot: bool) -> tuple[int, int, float]:
        loan = self.bank.lend(worker.source, name, request=request, slot=slot)
        request, slot = request and not loan.requests, slot and not loan.slots
        if (request or slot) and len(self.workers) > 1:
            await self._recall_from_others(worker, name)
            if worker in self.workers:
                more = self.bank.lend(worker.source, name, request=request, slot=slot)
                loan = Loan(loan.requests + more.requests, loan.slots + more.slots, more.wait_s)
        return loan.requests, loan.slots, loan.wait_s

    async def _borrow_tokens(self, worker: Worker, name: str, need: int, wish: int) -> tuple[int, str, float]:
        loan = self.bank.lend_tokens(name, need, wish)
        if not loan.tokens and len(self.workers) > 1:
            await self._recall_from_others(worker, name)
            if worker in self.workers:
                loan = self.bank.lend_tokens(name, need, wish)
        return loan.tokens, loan.limit, loan.wait_s

    async def _recall_from_others(self, worker: Worker, name: str) -> None:
        others = [other for other in self.workers if other is not worker and other.is_told]
        await self._of_all(self._recall(other, name) for other in others)

    async def _recall(self, worker: Worker, name: str) -> None:
        spare = await worker.link.call("recall", name, HANGS_S)
        if worker in self.workers:
            self.bank.take_back(worker.source, name, *spare)

    async def _feedback(self, opinion: dict[str, Any], client: str | None) -> Any:
        """To the worker that answered the request; None: nobody remembers it."""
        source = self.records.source_of(opinion["request_id"])
        if source is None:
            await self.refresh()
            source = self.records.source_of(opinion["request_id"])
        for worker in self.workers:
            if worker.source == source:
                return await worker.link.call("feedback", [opinion, client], HANGS_S)
        return None
