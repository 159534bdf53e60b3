"""A fleet put together: its admin listener, the files that it keeps and watches, and its worker processes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from configs.api_keys import ApiKeys
from configs.gateway import GatewayConfig
from configs.loading import as_yaml
from configs.routing import RoutingTable
from delivery.gateway.admin import Admin
from delivery.gateway.http.listeners import Address, listen
from delivery.gateway.keys.access import read_keys
from delivery.gateway.keys.budget_files import BudgetFile, kept_budgets
from delivery.gateway.server import cancelled
from delivery.gateway.settings import Settings
from delivery.gateway.table.files import StateFile, read_table
from delivery.gateway.table.watch import Watch
from delivery.gateway.workers.figures import FleetFigures
from delivery.gateway.workers.fleet import Fleet
from delivery.gateway.workers.processes import WorkerProcesses, reserve

log = logging.getLogger("slipway.gateway")
SHARED = (  # a part of each is a worker's
    "records_kept",
    "mirror_queue",
    "mirror_at_once",
    "max_in_flight",
    "max_in_flight_per_client",
    "max_connections",
    "max_held_bytes",
)
LEAVES_S = 5.0  # a worker that has drained, until its last rows are written
T = TypeVar("T")


@dataclass(frozen=True)
class ServingFleet:
    """A fleet whose workers serve. `admin_port`: 0 without an admin listener."""

    fleet: Fleet
    port: int
    admin_port: int


@contextlib.asynccontextmanager
async def serving_fleet(settings: Settings) -> AsyncIterator[ServingFleet]:
    """Workers that serve while the context lasts. Raises SlipwayError."""
    count = settings.workers
    fleet = Fleet(count, settings.records_kept, leased=settings.table is None)
    state = StateFile(settings.table_state) if settings.table_state else None
    changes = asyncio.Event()
    watches = _watches(settings, fleet, changes)
    for watch in watches:
        watch.look()
    if settings.table is None and state is not None and (kept := state.read()) is not None:
        fleet.tables.restore(kept)
    async with contextlib.AsyncExitStack() as stack:
        if settings.budgets_file is not None:
            kept_budgets(stack, BudgetFile(settings.budgets_file, fleet.keys))
        held = stack.enter_context(reserve(settings.host, settings.port, is_shared=settings.reuse_port))
        port = held.getsockname()[1]
        processes = WorkerProcesses(fleet, count, as_yaml(_of_one_worker(settings, port)))
        stack.push_async_callback(processes.stop, settings.drain_s + LEAVES_S)
        await processes.start()
        admin_port = await admin_listener(stack, settings, fleet, state)  # whoever reaches it may send users too
        for watch in watches:
            stack.push_async_callback(cancelled, asyncio.create_task(watch.run()))
        stack.push_async_callback(cancelled, asyncio.create_task(_spread(fleet, changes)))
        yield ServingFleet(fleet, port, admin_port)
        await processes.stop(settings.drain_s + LEAVES_S)


def _of_one_worker(settings: Settings, port: int) -> GatewayConfig:
    """One worker's settings: its part of what the whole gateway may have, and the files that each worker keeps."""
    count, config = settings.workers, {name: getattr(settings, name) for name in GatewayConfig.model_fields}
    shares = {name: ceil(config[name] / count) for name in SHARED if config[name] is not None}
    log_settings = settings.traffic_log
    if log_settings is not None and log_settings.folder is None and settings.table_state is not None:
        log_settings = log_settings.model_copy(update={"folder": settings.table_state.parent / "traffic"})
    alone = {"table": None, "table_state": None, "budget_state": None, "traffic_log": log_settings}
    return GatewayConfig(**config | shares | alone | {"port": port, "reuse_port": True})


def _watches(settings: Settings, fleet: Fleet, changes: asyncio.Event) -> list[Watch[RoutingTable] | Watch[ApiKeys]]:
    watches: list[Watch[RoutingTable] | Watch[ApiKeys]] = []
    if settings.api_keys is not None:
        watches.append(Watch(settings.api_keys, read_keys, _then(fleet.let_in, changes)))
    if settings.table is not None:
        watches.append(Watch(settings.table, read_table, _then(fleet.tables.replace, changes)))
    return watches


def _then(serve: Callable[[T], None], changes: asyncio.Event) -> Callable[[T], None]:
    def both(value: T) -> None:
        serve(value)
        changes.set()

    return both


async def _spread(fleet: Fleet, changes: asyncio.Event) -> None:
    """Brings the workers what was edited, until cancelled."""
    while True:
        await changes.wait()
        changes.clear()
        try:
            if unconfirmed := await fleet.spread():
                log.error(unconfirmed)
        except Exception:
            log.exception("what was edited could not be brought to the workers")


async def admin_listener(
    stack: contextlib.AsyncExitStack, settings: Settings, fleet: Fleet, state: StateFile | None
) -> int:
    """Opens the fleet's admin listener; its port, 0 where there is no token for it."""
    if not settings.admin_token:
        return 0
    admin = Admin(
        fleet.tables,
        fleet.records,
        fleet.breaker,
        fleet,
        FleetFigures(fleet),
        fleet,
        state,
        settings.admin_token,
        settings.table is not None,
        fleet.spread,
        fleet.refresh,
    )
    inside = Address(settings.admin_host, settings.admin_port, "--admin-port", settings.idle_connection_s)
    return await listen(stack, admin.app(), inside)
