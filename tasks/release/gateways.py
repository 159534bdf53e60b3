"""All gateways read and written at the same time: one that hangs must not delay a rollback on the others."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from functools import partial

from configs.errors import SlipwayError
from configs.routing import RoutingTable
from delivery.clients.at_once import at_once
from delivery.clients.gateway import GatewayClient
from delivery.release.state import GatewaySeen

LATE_S = 0.5  # for a gateway that is slower than another one
PUT_S = 3.0  # for one that is to say whether it took a table; the others have theirs by then
PROMPT_S = 1.0  # for one that answered the last time

Read = Callable[[str, GatewayClient], GatewaySeen | None]


def tables(clients: Mapping[str, GatewayClient]) -> dict[str, GatewaySeen | None]:
    """What each gateway serves; None: it does not answer, which a put will say."""
    found = at_once({name: client.table for name, client in clients.items()}, LATE_S)
    return {name: None if isinstance(one, SlipwayError) else GatewaySeen(table=one) for name, one in found.items()}


def put(
    clients: Mapping[str, GatewayClient],
    seen: Mapping[str, GatewaySeen | None],
    table: RoutingTable,
    late_s: float = PUT_S,
) -> dict[str, SlipwayError | None]:
    """Gives this table to each gateway that was not seen to have it: by name None, or what went wrong."""
    calls = {}
    for name, client in clients.items():
        known = seen.get(name)
        if known is None or known.table != table:
            calls[name] = partial(client.put_table, table)
    return at_once(calls, late_s) if calls else {}


def failures(done: Mapping[str, SlipwayError | None], total: int) -> str:
    """What went wrong, and on how many of all gateways; empty when nothing did."""
    errors = [str(error) for error in done.values() if error is not None]
    return f"on {len(errors)} of {total} gateways: {'; '.join(errors)}" if errors and total > 1 else "; ".join(errors)


@dataclass
class Gateways:
    """What a controller sees of its gateways, tick by tick. A late answer counts in the tick in which it is there."""

    clients: Mapping[str, GatewayClient]
    executor: Executor
    _asked: dict[str, "Future[GatewaySeen | None]"] = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)

    def see(self, read: Read) -> dict[str, GatewaySeen | None]:
        """None: no answer yet. Who did not answer the last time is not waited for."""
        if len(self.clients) == 1:
            return {name: read(name, client) for name, client in self.clients.items()}
        for name in self._asked.keys() - set(self.clients):  # it has left
            del self._asked[name]
        for name, client in self.clients.items():
            if name not in self._asked:
                self._asked[name] = self.executor.submit(read, name, client)
        wait([asked for name, asked in self._asked.items() if name not in self._silent], timeout=PROMPT_S)
        return {name: self._answer_of(name) for name in self.clients}

    def _answer_of(self, name: str) -> GatewaySeen | None:
        seen = self._asked.pop(name).result() if self._asked[name].done() else None
        if seen is None:
            self._silent.add(name)
        else:
            self._silent.discard(name)
        return seen
