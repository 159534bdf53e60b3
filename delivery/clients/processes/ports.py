"""Whether a port can be listened on, and who has it if not."""

import contextlib
import socket
from typing import NamedTuple

import psutil

from configs.errors import SlipwayError


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
    """Different ports on loopback that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _listener(number: int) -> str | None:
    with contextlib.suppress(psutil.AccessDenied, psutil.NoSuchProcess):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == number:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:120] or process.name()})"
    return None
