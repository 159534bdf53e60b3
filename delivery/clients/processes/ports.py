"""Whether a port can be listened on, and who has it if not."""

import contextlib
import random
import socket
from pathlib import Path
from typing import NamedTuple

import psutil

from configs.errors import SlipwayError

LOWEST, HIGHEST = 20_000, 30_000  # from there on Kubernetes gives out node ports
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
TRIES = 500


class Port(NamedTuple):
    """Where a process is to listen, and the setting that says so."""

    host: str
    number: int
    setting: str  # "environment.yaml: vllm.port"


def require_free(port: Port) -> None:
    """Raises SlipwayError that names the port, who listens there (where the system tells) and the cure."""
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host, port.number))
        except OSError as error:
            holder = _listener(port.number)
            raise SlipwayError(
                f"port {port.number} on {port.host} cannot be used: {error.strerror}"
                + (f" by {holder}" if holder else ""),
                where=port.setting,
                cure="end that process, or set another port",
            ) from error


def free_ports(count: int) -> list[int]:
    """Different ports on loopback that nobody listens on just now.

    They lie outside of the range from which the system itself gives ports out: whoever is to listen on one of them
    later, once it has started, finds it free, however many connections and listeners there have been meanwhile.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(LOWEST, _given_out_from()), TRIES + count):
        if len(found) == count:
            return found
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
    raise SlipwayError(f"of {TRIES + count} ports {count} are not free", cure="see who listens: ss -tlnp")


def _given_out_from() -> int:
    """The first port that the system gives out, or that a cluster may have for its services."""
    with contextlib.suppress(OSError):
        first = int(RANGE.read_text().split()[0])
        return min(first, HIGHEST) if first > LOWEST + 1000 else HIGHEST
    return HIGHEST


def _listener(number: int) -> str | None:
    with contextlib.suppress(psutil.AccessDenied, psutil.NoSuchProcess):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == number:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:120] or process.name()})"
    return None
