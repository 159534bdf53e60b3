"""The gateway's command line: every option, and what they come to together."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.errors import SlipwayError
from configs.loading import load
from configs.traffic_log import TrafficLog
from delivery.gateway.settings import Settings
from delivery.gateway.upstream.ask import Timeouts

TOKEN = "SLIPWAY_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
UPSTREAM_KEY = "SLIPWAY_UPSTREAM_API_KEY"
TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT"  # as OpenTelemetry calls it everywhere
EXAMPLE = """
alone, from a file that is watched for changes:
  python -m delivery.gateway --table table.yaml --port 8000

  # table.yaml
  revision: 1
  routes:
    tutor:
      salt: any-text-that-stays
      stable: long-prompt
      candidate: {variant: adapter, share_bp: 500, mirror_bp: 0}    # 5 % of the users
      variants:
        long-prompt: {model: base, upstreams: ["http://127.0.0.1:8100"], system_prompt: "You are a patient tutor."}
        adapter: {model: tutor-1a2b3c, upstreams: ["http://127.0.0.1:8100"]}

under a controller, which puts tables and renews their lease through the admin API:
  SLIPWAY_ADMIN_TOKEN=... python -m delivery.gateway --port 8000 --admin-port 8001 --table-state table.json
"""


def settings_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """What the command line and the environment say. Raises SlipwayError."""
    token = environ.get(TOKEN, "").strip()
    if arguments.table is None and not token:
        raise SlipwayError(
            f"there is no admin token in the environment variable {TOKEN}, and no --table",
            cure=f"set {TOKEN} to a long random text, or serve a file alone with --table FILE",
        )
    if arguments.table is not None and arguments.table_state is not None:
        raise SlipwayError(
            "--table and --table-state exclude each other",
            cure="--table FILE is yours to edit, --table-state FILE is written by the gateway itself",
        )
    if arguments.budget_state is not None and arguments.keys is None:
        raise SlipwayError(
            "--budget-state without --keys", cure="budgets are those of API keys: name their file with --keys"
        )
    return Settings(
        host=arguments.host,
        port=arguments.port,
        admin_host=arguments.admin_host,
        admin_port=arguments.admin_port,
        table=arguments.table,
        state=arguments.table_state,
        admin_token=token,
        workers=arguments.workers,
        keys=arguments.keys,
        budget_state=arguments.budget_state or _budgets_beside(arguments.table_state, arguments.keys),
        max_in_flight=arguments.max_in_flight,
        idle_connection_s=arguments.idle_connection_s,
        traffic_log=load(arguments.traffic_log, TrafficLog) if arguments.traffic_log else None,
        upstream_api_key=environ.get(UPSTREAM_KEY, "").strip(),
        traces_endpoint=environ.get(TRACES, "").strip(),
        timeouts=Timeouts(
            connect_s=arguments.connect_timeout_s,
            first_byte_s=arguments.first_byte_timeout_s,
            idle_s=arguments.idle_timeout_s,
            answer_s=arguments.answer_timeout_s,
        ),
        mirror_queue=arguments.mirror_queue,
        mirror_at_once=arguments.mirror_at_once,
        records_kept=arguments.records_kept,
        max_body_bytes=arguments.max_body_bytes,
        drain_s=arguments.drain_s,
        reuse_port=arguments.reuse_port,
        health_interval_s=arguments.health_interval_s,
    )


def _budgets_beside(state: Path | None, keys: Path | None) -> Path | None:
    return state.with_suffix(".budgets.json") if state is not None and keys is not None else None


@dataclass(frozen=True)
class Place:
    """Which worker this is, and the descriptor of its link to the fleet."""

    index: int
    link: int


def _place(text: str) -> Place:
    index, _, link = text.partition(":")
    return Place(int(index), int(link))


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m delivery.gateway`."""
    made = argparse.ArgumentParser(
        prog="python -m delivery.gateway",
        description="An OpenAI-compatible gateway in front of vLLM: sticky shares, mirror, failover, metrics.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    standing, seconds = Settings(), Timeouts()
    add = made.add_argument
    add("--host", default=standing.host, help="users' listener (%(default)s)")
    add("--port", type=_port, default=standing.port, help="users' listener (%(default)s); 0 is any free port")
    add("--admin-host", default=standing.admin_host, help="admin listener (%(default)s)")
    add("--admin-port", type=_port, default=standing.admin_port, help="admin listener (%(default)s)")
    add("--table", type=Path, metavar="FILE", help="serve this routing table (YAML), and watch it for changes")
    add("--table-state", type=Path, metavar="FILE", help="keep the table from the admin API here across restarts")
    add("--traffic-log", type=Path, metavar="FILE", help="write sampled requests as parquet; FILE (YAML) says how")
    add("--connect-timeout-s", type=_above_zero, default=seconds.connect_s, help="to a replica (%(default)s)")
    add(
        "--first-byte-timeout-s",
        type=_above_zero,
        default=seconds.first_byte_s,
        help="to a stream's first content (%(default)s)",
    )
    add(
        "--idle-timeout-s",
        type=_above_zero,
        default=seconds.idle_s,
        help="between two chunks of a stream (%(default)s)",
    )
    add(
        "--answer-timeout-s",
        type=_above_zero,
        default=seconds.answer_s,
        help="to a plain request's whole answer (%(default)s)",
    )
    add(
        "--mirror-queue",
        type=_count,
        default=standing.mirror_queue,
        help="copies waiting; more are dropped (%(default)s)",
    )
    add(
        "--mirror-at-once",
        type=_count,
        default=standing.mirror_at_once,
        help="copies under way; others wait in the queue (%(default)s)",
    )
    add("--records-kept", type=_count, default=standing.records_kept, help="attempts remembered (%(default)s)")
    add("--max-body-bytes", type=_count, default=standing.max_body_bytes, help="of a request (%(default)s)")
    add("--drain-s", type=_above_zero, default=standing.drain_s, help="for answers under way at SIGTERM (%(default)s)")
    add("--reuse-port", action="store_true", help="share --port with other gateways of this machine")
    add("--keys", type=Path, metavar="FILE", help="let in only the API keys of this file (YAML), and watch it")
    add(
        "--budget-state",
        type=Path,
        metavar="FILE",
        help="keep what the keys have spent here across restarts (beside --table-state)",
    )
    add(
        "--workers",
        type=_count,
        default=standing.workers,
        help="processes that share --port as one gateway (%(default)s)",
    )
    add("--worker", type=_place, help=argparse.SUPPRESS)  # what a fleet starts its workers with
    add("--max-in-flight", type=_count, default=standing.max_in_flight, help="requests at once (%(default)s)")
    add(
        "--idle-connection-s",
        type=_above_zero,
        default=standing.idle_connection_s,
        help="until a connection without a request is closed (%(default)s)",
    )
    add(
        "--health-interval-s",
        type=_above_zero,
        default=standing.health_interval_s,
        help="between two looks at every replica (%(default)s)",
    )
    return made


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return number
