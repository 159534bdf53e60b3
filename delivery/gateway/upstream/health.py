"""Active health checks: every replica is asked for its models, every few seconds and after each new table."""

import asyncio
import logging

import orjson

from configs.routing import RoutingTable
from delivery.gateway.http.upstream_answer import BrokenOffError, ExhaustedError, UnreachableError
from delivery.gateway.upstream.ask import Upstreams
from delivery.gateway.upstream.replicas import Replicas

log = logging.getLogger("slipway.gateway")
CHECK_TIMEOUT_S = 2.0


class Health:
    """Asks `GET /v1/models`. Any answer below 500 says that the replica is up; a list says what it has loaded."""

    def __init__(self, replicas: Replicas, upstreams: Upstreams, every_s: float):
        self._replicas = replicas
        self._upstreams = upstreams
        self._every_s = every_s
        self._new_table = asyncio.Event()

    def table_changed(self, _: RoutingTable) -> None:
        """Asks at once."""
        self._new_table.set()

    async def run(self) -> None:
        """Asks until cancelled."""
        while True:
            self._new_table.clear()
            generation = self._replicas.generation
            async with asyncio.TaskGroup() as checks:
                for url, _ in self._replicas.known():
                    checks.create_task(self._check(url, generation))
            try:
                async with asyncio.timeout(self._every_s):
                    await self._new_table.wait()
            except TimeoutError:
                continue

    async def _check(self, url: str, generation: int) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                status, raw = await self._upstreams.get(url, "/v1/models")
        except (UnreachableError, BrokenOffError, TimeoutError):
            self._replicas.checked(url, False, None, generation)
            return
        except ExhaustedError:  # which says nothing about the replica
            return
        except Exception:  # the other replicas' checks must go on
            log.exception("a health check broke the gateway's own code", extra={"upstream": url})
            self._replicas.checked(url, False, None, generation)
            return
        listed = _listed(raw) if status == 200 else None
        models = frozenset(listed) if listed is not None else None
        contexts = {name: length for name, length in (listed or {}).items() if length is not None}
        self._replicas.checked(url, status < 500, models, generation, contexts)


def _listed(raw: bytes) -> dict[str, int | None] | None:
    """The models' names, each with how long its prompt and answer may be together (vLLM says so; a LoRA's base does).

    None where the answer is no list of models.
    """
    try:
        listed = {str(model["id"]): model for model in orjson.loads(raw)["data"]}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return {
        name: _context(model) or _context(listed.get(str(model.get("parent")), {})) for name, model in listed.items()
    }


def _context(model: dict[str, object]) -> int | None:
    length = model.get("max_model_len")
    return length if isinstance(length, int) and length > 0 else None
