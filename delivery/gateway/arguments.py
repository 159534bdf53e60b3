"""The gateway's command line: an option for every setting, over what a file says.

The options are made out of the model, so that a new setting is one field and nothing else.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from configs.errors import ConfigError, Problem, SlipwayError
from configs.gateway import GatewayConfig
from configs.loading import check, check_values, read_text
from configs.yaml_text import read_mapping
from delivery.gateway.settings import Settings

STANDARD_INPUT = Path("-")
TOKEN = "SLIPWAY_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_CHARACTERS = 32
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

with every setting in one file, and another port than it says:
  python -m delivery.gateway --config gateway.yaml --port 9000

  # gateway.yaml
  api_keys: keys.yaml
  table_state: table.json
  max_body_bytes: 20000000
"""
ALSO = {"api_keys": ("--keys",)}  # further spellings of an option, by setting


def settings_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """What file, command line and environment come to. Raises SlipwayError that lists every problem."""
    given = {name: value for name, value in vars(arguments).items() if name in GatewayConfig.model_fields}
    values, problems = _values_of(arguments.config)
    for name, file in given.items():
        model = _model_of(name)
        values[name], found = (file, []) if model is None else check(Path(file), model)
        problems += found
    if problems:
        raise ConfigError("the gateway cannot be started", problems=problems)
    config, problems = check_values(values, GatewayConfig, lambda key: _place(key, given, arguments.config))
    if config is None:
        raise ConfigError("the gateway cannot be started", problems=problems)
    token = environ.get(TOKEN, "").strip()
    if config.table is None and not token and arguments.worker is None:
        raise SlipwayError(
            f"there is no admin token in the environment variable {TOKEN}, and no --table",
            cure=f"set {TOKEN} to a long random text, or serve a file alone with --table FILE",
        )
    if token and len(token) < TOKEN_CHARACTERS and arguments.worker is None:
        raise SlipwayError(
            f"the admin token in {TOKEN} has {len(token)} characters, at least {TOKEN_CHARACTERS} are needed",
            cure=f"make one: export {TOKEN}=$(openssl rand -hex 32)",
        )
    secrets = {
        "admin_token": "" if arguments.worker is not None else token,  # the fleet answers the controller
        "upstream_api_key": environ.get(UPSTREAM_KEY, "").strip(),
        "traces_endpoint": environ.get(TRACES, "").strip(),
    }
    return Settings.model_validate(dict(config) | secrets)


def _values_of(path: Path | None) -> tuple[dict[str, Any], list[Problem]]:
    """What the file says; a path of `-` is standard input."""
    if path is None:
        return {}, []
    text, problem = (sys.stdin.read(), None) if path == STANDARD_INPUT else read_text(path)
    values, problem = ({}, problem) if problem is not None else read_mapping(text, str(path))
    return values, [] if problem is None else [problem]


def _place(key: str, given: Mapping[str, Any], config: Path | None) -> str:
    """Where a setting was said: the option, or the file and its key."""
    name, _, _ = key.partition(".")
    if name in given or config is None:
        return f"--{name.replace('_', '-')}" if name else "the command line"
    return f"{config}: {key}" if key else str(config)


@dataclass(frozen=True)
class WorkerPlace:
    """Which worker this is, and the descriptor of its link to the fleet."""

    index: int
    link: int


def _worker(text: str) -> WorkerPlace:
    index, _, link = text.partition(":")
    return WorkerPlace(int(index), int(link))


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m delivery.gateway`. What is not given is not in its result, but for `config`."""
    made = argparse.ArgumentParser(
        prog="python -m delivery.gateway",
        description="An OpenAI-compatible gateway in front of vLLM: sticky shares, mirror, failover, metrics.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="all settings as YAML (- is standard input); options override it",
    )
    made.add_argument("--worker", type=_worker, help=argparse.SUPPRESS)  # what a fleet starts its workers with
    for name in GatewayConfig.model_fields:
        _add_option(made, name)
    return made


def _add_option(made: argparse.ArgumentParser, name: str) -> None:
    field = GatewayConfig.model_fields[name]
    words = field.description or ""
    if field.default not in (None, False, ()):
        words += f" ({field.default})"
    kind, more = _kind(field.annotation), dict[str, Any]()
    if kind is bool:
        more["action"] = argparse.BooleanOptionalAction
    elif get_origin(kind) is tuple:
        more |= {"nargs": "+"}
    elif kind is Path or _model_of(name) is not None:
        more["metavar"] = "FILE"
        words += "; FILE (YAML) says how" if kind is not Path else ""
    spellings = (f"--{name.replace('_', '-')}", *ALSO.get(name, ()))
    help_text = words.replace("%", "%%")
    made.add_argument(*spellings, dest=name, default=argparse.SUPPRESS, help=help_text, **more)


def _model_of(name: str) -> type[BaseModel] | None:
    """The model of a setting that has parts; on the command line it is a file."""
    kind = _kind(GatewayConfig.model_fields[name].annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _kind(annotation: Any) -> Any:
    """The type without its `| None`."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not type(None))
    return annotation
