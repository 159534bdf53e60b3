"""A gateway that serves: its parts and its two listeners, opened and closed in order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from configs.api_keys import ApiKeys
from configs.errors import SlipwayError
from configs.routing import RoutingTable
from delivery.gateway.admin import Admin
from delivery.gateway.http.listeners import Address, listen, telling_why
from delivery.gateway.http.server import HttpServer
from delivery.gateway.keys.access import read_keys
from delivery.gateway.keys.budget_files import BudgetFile, kept_budgets
from delivery.gateway.parts import Gateway
from delivery.gateway.settings import Settings
from delivery.gateway.table.files import StateFile, read_table
from delivery.gateway.table.served import Clock
from delivery.gateway.table.watch import Watch

if TYPE_CHECKING:
    from delivery.gateway.records.traffic_log import TrafficWriter
    from delivery.gateway.workers.member import Member

LAST_VERDICTS_S = 1.0  # for answers that are being judged when the gateway stops


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    *,
    monotonic: Clock = time.monotonic,
    wall: Clock = time.time,
    member: "Member | None" = None,
) -> AsyncIterator[Gateway]:
    """A gateway that serves for as long as the context lasts, and drains at its end. Raises SlipwayError.

    As a `member` of a fleet it is told by the fleet what to serve, and keeps nothing itself.
    """
    gateway = Gateway(settings, monotonic, wall, member)
    async with contextlib.AsyncExitStack() as stack:
        if gateway.traces is not None:
            stack.push_async_callback(asyncio.to_thread, gateway.traces.close)
        if gateway.log is not None:
            stack.push_async_callback(asyncio.to_thread, _started(gateway.log).stop)
        stack.push_async_callback(gateway.attempts.settle, LAST_VERDICTS_S)
        await stack.enter_async_context(gateway.upstreams)
        stack.push_async_callback(cancelled, asyncio.create_task(gateway.mirror.run()))
        stack.push_async_callback(cancelled, asyncio.create_task(gateway.health.run()))
        if member is None:
            await _stand_alone(stack, gateway, settings, wall)
        else:
            await member.join(stack, gateway)
        users = HttpServer(
            gateway.paths.handle,
            settings.max_body_bytes,
            settings.idle_connection_s,
            gateway.metrics.refuse,
            max_connections=settings.max_connections,
            max_held_bytes=settings.max_held_bytes,
        )
        stack.push_async_callback(users.close)
        with telling_why(settings.host, settings.port, "--port"):
            gateway.port = await users.start(settings.host, settings.port, is_shared=settings.reuse_port)
        if member is not None:
            await member.ready()
        yield gateway
        await users.stop_accepting()
        await gateway.drain(users, settings.drain_s)


async def _stand_alone(stack: contextlib.AsyncExitStack, gateway: Gateway, settings: Settings, wall: Clock) -> None:
    """The files that the gateway keeps and watches, and its admin listener."""
    state = StateFile(settings.table_state) if settings.table_state else None
    watches: list[Watch[RoutingTable] | Watch[ApiKeys]] = []
    if settings.api_keys is not None:
        watches.append(Watch(settings.api_keys, read_keys, gateway.keys.replace))
    if settings.table is not None:
        watches.append(Watch(settings.table, read_table, gateway.tables.replace))
    for watch in watches:
        watch.look()
    if settings.table is None and state is not None and (kept := state.read()) is not None:
        gateway.tables.restore(kept)
    if settings.budgets_file is not None:
        kept_budgets(stack, BudgetFile(settings.budgets_file, gateway.keys, wall))
    for watch in watches:
        stack.push_async_callback(cancelled, asyncio.create_task(watch.run()))
    if settings.admin_token:
        admin = Admin(
            gateway.tables,
            gateway.attempts,
            gateway.breaker,
            gateway.replicas,
            gateway.exposition,
            gateway.pairs,
            state,
            settings.admin_token,
            settings.table is not None,
        )
        inside = Address(settings.admin_host, settings.admin_port, "--admin-port", settings.idle_connection_s)
        gateway.admin_port = await listen(stack, admin.app(), inside)


def _started(log: "TrafficWriter") -> "TrafficWriter":
    try:
        log.start()
    except OSError as error:
        what = f"the traffic log cannot be written: {error.strerror or error}"
        raise SlipwayError(
            what, where=str(error.filename), cure="choose another folder in the traffic log's settings"
        ) from None
    return log


async def cancelled(task: asyncio.Task[None]) -> None:
    """Ends the task, and waits for it."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
