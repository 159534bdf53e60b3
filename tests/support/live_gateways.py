"""Gateways that share a port, each a process, and the controller that puts tables to them and reads what they saw."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from configs.routing import RoutingTable
from delivery.clients.gateway import GatewayClient, GatewayError
from delivery.traffic.records import Record

TOKEN = "a-token-for-tests-of-32-characters-and-more"
EVERY_S = 0.25  # between two looks of the controller


@dataclass(frozen=True)
class Death:
    """A process at the instant of its kill -9. Times are UNIX seconds; `client_ports`: who was connected to it."""

    seen_at: float
    at: float
    client_ports: frozenset[int] = frozenset()


class Gateway:
    """`python -m delivery.gateway` on a port that others of its kind share."""

    def __init__(self, port: int, folder: Path, *arguments: str):
        state = ("--table-state", str(folder / "table.json"))
        command = [sys.executable, "-m", "delivery.gateway", "--reuse-port", "--port", str(port), "--admin-port", "0"]
        self._port = port
        self._log = (folder / "gateway.log").open("ab")
        self.popen = subprocess.Popen(
            [*command, *state, *arguments],
            env=os.environ | {"SLIPWAY_ADMIN_TOKEN": TOKEN},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stderr is not None
        serves = json.loads(self.popen.stderr.readline())
        self._reader = threading.Thread(target=self._keep_log, daemon=True)
        self._reader.start()
        self.admin_url = f"http://127.0.0.1:{serves['admin_port']}"
        self.admin = GatewayClient(self.admin_url, TOKEN, timeout_s=60)
        self.records: list[Record] = []
        self.metrics: dict[str, float] = {}  # summed over all labels, and by `NAME:OUTCOME` and `NAME:UPSTREAM`
        self.is_leaving = self.is_gone = False
        self.read_at, self.ended_at = 0.0, float("inf")  # UNIX seconds; last read completely

    def _keep_log(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self._log.write(line.encode())

    def read(self) -> None:
        """Takes its new records and its counters. Raises GatewayError."""
        began_at = time.time()
        while page := self.admin.records(self.records[-1].seq if self.records else 0).records:
            self.records += page
        text = httpx.get(f"{self.admin_url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60).text
        self.metrics, self.read_at = _sums(text), began_at

    def in_flight(self) -> float:
        """Attempts under way, by the last look."""
        return self.metrics.get("slipway_in_flight", 0.0)

    def streams_begun(self) -> int:
        """Streams under way whose first content is there, now."""
        return sum(one.ttft_s is not None for one in self.admin.records(0, limit=0).in_flight)

    def in_flight_at(self, upstream: str) -> float:
        """Attempts that this replica has now, by the last look."""
        return self.metrics.get(f"slipway_upstream_in_flight:{upstream}", 0.0)

    def end(self) -> int:
        """SIGTERM, and its exit status once it has drained."""
        self.is_leaving = True
        self.popen.terminate()
        status = self.popen.wait(timeout=120)
        self.is_gone, self.ended_at = True, time.time()
        return status

    def kill(self) -> Death:
        """kill -9."""
        self.is_leaving = True
        seen_at = time.time()
        mine = psutil.Process(self.popen.pid).net_connections("tcp")
        ports = frozenset(one.raddr.port for one in mine if one.raddr and one.laddr.port == self._port)
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(timeout=60)
        self.is_gone, self.ended_at = True, time.time()
        return Death(seen_at, self.ended_at, ports)

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self.popen.kill()
        self.popen.wait(timeout=60)
        self._reader.join(60)
        self._log.close()
        self.admin.close()


def _sums(text: str) -> dict[str, float]:
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
            for label in ("outcome", "upstream"):
                if label in sample.labels:
                    found[f"{sample.name}:{sample.labels[label]}"] += sample.value
    return dict(found)


@dataclass
class Controller:
    """Puts a new table every `change_every_s` to every gateway, grants leases, and gathers what they measure."""

    make_table: Callable[[int], RoutingTable]
    change_every_s: float
    gateways: list[Gateway] = field(default_factory=list)
    tables: list[RoutingTable] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, gateway: Gateway) -> None:
        """From now on it gets every table."""
        with self._lock:
            if self.tables:
                gateway.admin.put_table(self.tables[-1])
            self.gateways.append(gateway)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """In a thread of its own until the context ends; then everything is read once more."""
        stop = threading.Event()
        thread = threading.Thread(target=self._work, args=(stop,))
        self._put()
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)
        self.read()

    def read(self) -> None:
        """What every gateway that is left has measured since."""
        with self._lock:
            for gateway in self._left():
                self._told(gateway, gateway.read)

    def _work(self, stop: threading.Event) -> None:
        changed_at = time.monotonic()
        while not stop.wait(EVERY_S):
            self.read()
            if time.monotonic() - changed_at >= self.change_every_s:
                changed_at = time.monotonic()
                self._put()

    def _put(self) -> None:
        with self._lock:
            self.tables.append(self.make_table(len(self.tables) + 1))
            for gateway in self._left():
                self._told(gateway, lambda gateway=gateway: gateway.admin.put_table(self.tables[-1]))

    def _left(self) -> list[Gateway]:
        return [one for one in self.gateways if not one.is_gone]

    def _told(self, gateway: Gateway, do: Callable[[], None]) -> None:
        """A gateway may fail only in going."""
        try:
            do()
        except (GatewayError, httpx.HTTPError) as error:
            if not gateway.is_leaving:
                self.problems.append(f"{gateway.admin_url}: {error!r}")
