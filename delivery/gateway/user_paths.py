"""The users' listener by path: who answers what, and what is answered from here."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from urllib.parse import unquote

import orjson

from delivery.gateway.cors import PREFLIGHT, allowing
from delivery.gateway.http.messages import Request, Response
from delivery.gateway.http.server import Handler
from delivery.gateway.keys.access import Keys
from delivery.gateway.log_ins import LogIns
from delivery.gateway.openai import openapi
from delivery.gateway.openai.errors import JSON_HEADERS, ApiError, unknown_route
from delivery.gateway.proxy import routes_for
from delivery.gateway.records.metrics import Metrics
from delivery.gateway.table.served import Tables
from delivery.gateway.upstream.replicas import Replicas

MODEL_PATH = "/v1/models/"
STORED_PATH = "/v1/responses/"
OPENAPI = orjson.dumps(openapi.page())


class UserPaths:
    """`posts`: by path who takes what is sent there. The listener has these paths and its own, and no others."""

    def __init__(
        self,
        posts: Mapping[str, Handler],
        tables: Tables,
        replicas: Replicas,
        metrics: Metrics,
        keys: Keys,
        log_ins: LogIns,
        origins: frozenset[str],
        is_draining: Callable[[], bool],
    ):
        self._tables, self._replicas, self._metrics = tables, replicas, metrics
        self._keys, self._log_ins, self._origins = keys, log_ins, origins
        self._is_draining = is_draining
        self._by_path: dict[str, tuple[str, Handler]] = {path: ("POST", handler) for path, handler in posts.items()}
        self._by_path["/v1/models"] = ("GET", self._models)
        self._by_path["/healthz"] = ("GET", self._alive)
        self._by_path["/readyz"] = ("GET", self._ready)
        self._by_path["/openapi.json"] = ("GET", self._openapi)

    def handle(self, http: Request) -> Awaitable[Response | None]:
        """Answers a user's request, whatever it is."""
        path = http.path
        if self._origins and (origin := http.headers.get("origin")) is not None:
            http.also = allowing(self._origins, origin)
            if http.method == "OPTIONS" and "access-control-request-method" in http.headers:
                http.also = {**http.also, **PREFLIGHT} if "Access-Control-Allow-Origin" in http.also else http.also
                return _at_once(Response(204, b""))
        method, handler = self._by_path.get(path, ("", None))
        if handler is None and path.startswith(MODEL_PATH):
            method, handler = "GET", self._models
        if handler is None:
            why = ": no answers are stored." if path.startswith(STORED_PATH) else "."
            what = f"There is no such path here{why}"
            return _at_once(self._refused(ApiError(404, what, code="no_such_path")))
        if http.method != method and (http.method, method) != ("HEAD", "GET"):
            refusal = self._refused(ApiError(405, f"This path takes {method} only.", code="method_not_allowed"))
            return _at_once(replace(refusal, headers={**refusal.headers, "Allow": method}))
        return handler(http)

    def _refused(self, refusal: ApiError) -> Response:
        self._metrics.refuse(refusal)
        return refusal.response()

    async def _models(self, http: Request) -> Response:
        """The routes that a key may use, as models; at a path below, the one that it names."""
        try:
            names = routes_for(self._keys.identify(http.headers), self._tables)
        except ApiError as refusal:
            await self._log_ins.failed(http.peer)
            return self._refused(refusal)
        if not http.path.startswith(MODEL_PATH):
            return _json({"object": "list", "data": [self._shown(name) for name in names]})
        name = unquote(http.path.removeprefix(MODEL_PATH))
        return _json(self._shown(name)) if name in names else self._refused(unknown_route("", names))

    def _shown(self, name: str) -> dict[str, object]:
        """A route as a model, with what its replicas say of its context's length."""
        route = self._tables.routes[name]
        context = self._replicas.context_of(route.variants[route.stable])
        length = {"max_model_len": context} if context is not None else {}
        return {"id": name, "object": "model", "created": 0, "owned_by": "slipway", **length}

    async def _alive(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        if self._is_draining() or not self._tables.routes:
            return _json({"status": "draining" if self._is_draining() else "no route is served yet"}, 503)
        return _json({"status": "ok"})

    async def _openapi(self, _: Request) -> Response:
        return Response(200, OPENAPI, JSON_HEADERS)


async def _at_once(response: Response) -> Response:
    return response


def _json(value: object, status: int = 200) -> Response:
    return Response(status, orjson.dumps(value), JSON_HEADERS)
