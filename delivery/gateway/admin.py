"""The controller's listener: replaces the table, renews its lease, reads the records. Everything needs the token."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from configs.errors import ConfigError, Problem
from configs.strict import Strict
from delivery.gateway.log_ins import LogIns
from delivery.gateway.table.files import StateFile, parse_table
from delivery.gateway.table.served import ConflictError, Tables
from delivery.traffic.breaker import Breaker

RECORDS_AT_ONCE = 20_000
PAIRS_AT_ONCE = 200
FAILED_LOG_INS = b"""# HELP slipway_admin_failed_logins_total Requests to the admin API without its token.
# TYPE slipway_admin_failed_logins_total counter
slipway_admin_failed_logins_total %d
"""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Renewal(Strict):
    """The body of `POST /admin/lease`."""

    revision: int


class Recorded(Protocol):
    """One process' attempts, or several processes' merged."""

    def page(self, after: int, limit: int) -> dict[str, Any]: ...  # noqa: D102


class ReplicaStates(Protocol):
    """What is known of the replicas."""

    def page(self) -> list[dict[str, Any]]: ...  # noqa: D102


class Rendered(Protocol):
    """The metrics' page."""

    def render(self) -> bytes: ...  # noqa: D102


class Paired(Protocol):
    """Both answers to mirrored requests."""

    async def read(self, after: int, limit: int) -> dict[str, Any]: ...  # noqa: D102


async def already_there() -> str:
    """Nothing has to be done: one process knows all."""
    return ""


@dataclass
class Admin:
    """`state`: where the table is kept for a restart. `is_file_served`: the table is a file's, and only shown here.

    Of several processes that serve as one, `spread` brings them what was put (and says who has not confirmed it), and
    `refresh` hears what they have to tell.
    """

    tables: Tables
    attempts: Recorded
    breaker: Breaker
    replicas: ReplicaStates
    exposition: Rendered
    pairs: Paired
    state: StateFile | None
    token: str
    is_file_served: bool = False
    spread: Callable[[], Awaitable[str]] = already_there
    refresh: Callable[[], Awaitable[str]] = already_there
    log_ins: LogIns = field(default_factory=lambda: LogIns("admin"))

    def app(self) -> web.Application:
        """The listener's application."""
        app = web.Application(middlewares=[self._guard], client_max_size=4 * 1024 * 1024)
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/admin/table", self._show)
        app.router.add_put("/admin/table", self._put)
        app.router.add_post("/admin/lease", self._renew)
        app.router.add_get("/admin/records", self._records)
        app.router.add_get("/admin/pairs", self._pairs)
        app.router.add_get("/admin/upstreams", self._upstreams)
        app.router.add_get("/metrics", self._metrics)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        sent = token.strip().encode("utf-8", "surrogatepass")
        is_known = scheme.lower() == "bearer" and hmac.compare_digest(sent, self.token.encode())
        if not is_known and request.path != "/healthz":
            await self.log_ins.failed(request.remote or "")
            return _error(401, "the admin API needs the header Authorization: Bearer <admin token>")
        try:
            return await handler(request)
        except ConflictError as conflict:
            return _error(409, str(conflict))
        except ConfigError as error:
            return _error(422, error.what, error.problems)
        except web.HTTPException as error:
            return _error(error.status, error.reason)

    async def _alive(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _show(self, _: web.Request) -> web.Response:
        if self.tables.table is None:
            return _error(404, "no table has been put yet")
        return _json(self.tables.table.model_dump(mode="json"))

    async def _put(self, http: web.Request) -> web.Response:
        table = parse_table(await http.read())
        self._must_be_ours()
        self.tables.put(table)
        return await self._taken()

    async def _renew(self, http: web.Request) -> web.Response:
        try:
            renewal = Renewal.model_validate_json(await http.read())
        except ValidationError as error:
            found = [Problem(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
            raise ConfigError('the body must be like {"revision": 7}', problems=found) from None
        self._must_be_ours()
        self.tables.renew(renewal.revision)
        return await self._taken()

    async def _records(self, http: web.Request) -> web.Response:
        after, limit = _number(http, "after", 0), _number(http, "limit", 5000)
        await self.refresh()
        page = self.attempts.page(after, min(limit, RECORDS_AT_ONCE))
        page["tripped"] = self.breaker.page()
        page["revision"] = self.tables.revision
        page["lease_remaining_s"] = self.tables.lease_remaining_s()
        return _json(page)

    async def _pairs(self, http: web.Request) -> web.Response:
        after, limit = _number(http, "after", 0), _number(http, "limit", PAIRS_AT_ONCE)
        return _json(await self.pairs.read(after, min(limit, PAIRS_AT_ONCE)))

    async def _upstreams(self, _: web.Request) -> web.Response:
        await self.refresh()
        return _json({"upstreams": self.replicas.page()})

    async def _metrics(self, _: web.Request) -> web.Response:
        await self.refresh()
        failed = FAILED_LOG_INS % self.log_ins.failures
        return web.Response(body=self.exposition.render() + failed, headers={"Content-Type": METRICS_TYPE})

    def _must_be_ours(self) -> None:
        if self.is_file_served:
            raise ConflictError("this gateway serves a table from a file: edit the file, or start it without --table")

    async def _taken(self) -> web.Response:
        unconfirmed = await self.spread()
        is_kept = await self.state.write(self.tables) if self.state else False
        if unconfirmed:
            return _error(503, unconfirmed)
        lease = self.tables.lease_remaining_s()
        return _json({"revision": self.tables.revision, "lease_remaining_s": lease, "kept": is_kept})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), headers={"Content-Type": "application/json"})


def _error(status: int, message: str, problems: Sequence[Problem] = ()) -> web.Response:
    listed = [{"where": problem.where, "what": problem.what, "cure": problem.cure} for problem in problems]
    return _json({"error": {"message": message, "problems": listed}}, status)


def _number(http: web.Request, name: str, default: int) -> int:
    text = http.query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ConfigError(f"`{name}` must be a whole number from 0 up", problems=[Problem(name, f"found {text!r}")])
    return int(text)
