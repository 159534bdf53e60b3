"""What the gateway can be told, spelled once: its file and its command line say it, and environment.yaml embeds it."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from configs.strict import Strict
from configs.traffic_log import TrafficLog


class GatewayConfig(Strict):
    """The gateway's process: one listener for users, one for the controller. A port of 0 is any free one.

    Every field is a key of the file, and an option of the command line with dashes for the underscores; a field that is
    a model of its own is a FILE there. Secrets come from the process's environment, never from here.
    """

    host: str = Field("127.0.0.1", description="users' listener")
    port: int = Field(8000, ge=0, le=65535, description="users' listener")
    admin_host: str = Field("127.0.0.1", description="the controller's listener")
    admin_port: int = Field(8001, ge=0, le=65535, description="the controller's listener")
    reuse_port: bool = Field(False, description="share the users' port with other gateways of this machine")
    workers: int = Field(1, ge=1, description="processes that share the port as one gateway: one for every core")
    table: Path | None = Field(None, description="serve this routing table (YAML), and watch it for changes")
    table_state: Path | None = Field(None, description="keep the table from the admin API here across restarts")
    api_keys: Path | None = Field(None, description="let in only the keys of this file (YAML), and watch it")
    trust_user_names: bool | None = Field(
        None,
        description="count every name that a request gives itself as a user of its own where no API key stands behind"
        " it; by default only while users are let in from this machine alone",
    )
    budget_state: Path | None = Field(
        None, description="keep what the keys have spent here across restarts; by default beside the kept table"
    )
    traffic_log: TrafficLog | None = Field(None, description="write sampled requests as parquet")
    connect_timeout_s: float = Field(2.0, gt=0, description="to a replica")
    first_byte_timeout_s: float = Field(60.0, gt=0, description="to a stream's first content")
    idle_timeout_s: float = Field(60.0, gt=0, description="between two chunks of a stream")
    answer_timeout_s: float = Field(300.0, gt=0, description="to a plain request's whole answer")
    idle_connection_s: float = Field(75.0, gt=0, description="until a connection without a request's head is closed")
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1, description="of a request")
    max_in_flight: int = Field(4096, ge=1, description="requests at once")
    max_in_flight_per_client: int | None = Field(
        None, ge=1, description="of one API key, or one address where there are no keys; by default three quarters"
    )
    max_connections: int = Field(8192, ge=1, description="of clients; beyond it those that wait the longest are closed")
    max_held_bytes: int = Field(256 * 1024 * 1024, ge=1, description="of all bodies that are in hand")
    allowed_origins: tuple[str, ...] = Field(
        (), description="web pages that may ask from a browser (CORS), e.g. https://chat.example.org; * is any"
    )
    keep_alive_s: float | None = Field(
        None, gt=0, description="a stream without its first content gets a comment this often; by default never"
    )
    mirror_queue: int = Field(64, ge=1, description="mirrored requests waiting; more are dropped and counted")
    mirror_at_once: int = Field(64, ge=1, description="mirrored requests under way; others wait")
    records_kept: int = Field(100_000, ge=1, description="attempts remembered for the controller")
    health_interval_s: float = Field(2.0, gt=0, description="between two looks at every replica")
    drain_s: float = Field(8.0, gt=0, description="for answers under way at SIGTERM")
    homes: int | None = Field(
        None,
        ge=1,
        description="replicas of a variant that are asked first, the same ones for the same model, so that its adapter"
        " and its prompt's beginning stay in their memory; by default all are, whichever has the least to do",
    )
    homes_lead: int = Field(
        8,
        ge=0,
        description="requests that a home may have more under way than another replica before that one is asked",
    )

    @property
    def trusts_user_names(self) -> bool:
        """Whether names without a key are users: anybody who reaches an open gateway can make up a thousand."""
        if self.trust_user_names is not None:
            return self.trust_user_names
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def counts_users_as_one(self) -> bool:
        """Whether users are told apart by nothing that they could not make up."""
        return self.api_keys is None and not self.trusts_user_names

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.table is not None and self.table_state is not None:
            raise ValueError(
                "table and table_state exclude each other"
                " -> table is a file of yours to edit, table_state is written by the gateway itself"
            )
        if self.budget_state is not None and self.api_keys is None:
            raise ValueError(
                "budget_state without api_keys -> budgets are those of API keys: name their file (--keys FILE)"
            )
        if self.homes is None and self.homes_lead != type(self).model_fields["homes_lead"].default:
            raise ValueError("homes_lead without homes -> say how many replicas are a variant's homes, or leave it out")
        return self
