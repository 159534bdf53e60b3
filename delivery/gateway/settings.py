"""What the gateway's process is started with."""

from dataclasses import dataclass, field
from pathlib import Path

from configs.environment import GatewayConfig
from configs.traffic_log import TrafficLog
from delivery.gateway.upstream.ask import Timeouts

DEFAULTS = GatewayConfig()


@dataclass(frozen=True)
class Settings:
    """A port of 0 is any free one."""

    host: str = DEFAULTS.host
    port: int = DEFAULTS.port
    admin_host: str = DEFAULTS.admin_host
    admin_port: int = DEFAULTS.admin_port
    workers: int = DEFAULTS.workers  # processes
    table: Path | None = None  # a file that somebody edits; watched
    state: Path | None = None  # the gateway's own file, for a restart
    admin_token: str = ""  # without one there is no admin listener
    keys: Path | None = None  # who may ask; a file, watched. None: whoever can reach the port
    budget_state: Path | None = None  # what the keys have spent, for a restart
    upstream_api_key: str = ""
    traffic_log: TrafficLog | None = None
    traces_endpoint: str = ""  # an OTLP/HTTP collector's base URL; without one nothing is traced
    timeouts: Timeouts = field(default_factory=Timeouts)
    mirror_queue: int = DEFAULTS.mirror_queue
    mirror_at_once: int = DEFAULTS.mirror_at_once
    records_kept: int = DEFAULTS.records_kept
    max_body_bytes: int = 4 * 1024 * 1024
    max_in_flight: int = 4096  # requests
    idle_connection_s: float = 75.0  # without a whole request's head on it
    drain_s: float = 8.0
    reuse_port: bool = False  # several gateways on one port of one machine
    health_interval_s: float = 2.0
