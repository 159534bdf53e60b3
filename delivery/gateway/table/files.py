"""Routing tables out of files and JSON: what a person edits, what the admin API is sent, what survives a restart."""

import asyncio
import contextlib
import logging
import os
import re
from pathlib import Path

import orjson
from pydantic import ValidationError

from configs.errors import ConfigError, Problem, SlipwayError
from configs.loading import explained, load
from configs.routing import RoutingTable
from delivery.gateway.openai.endpoints.known import ENDPOINTS
from delivery.gateway.table.served import Kept, Tables

log = logging.getLogger("slipway.gateway")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")


def read_table(path: Path) -> RoutingTable:
    """A table out of a YAML (or JSON) file. Raises ConfigError that lists every problem."""
    table = load(path, RoutingTable)
    problems = problems_with(table, where=f"{path}: ")
    if problems:
        raise ConfigError(f"{path} cannot be served", problems=problems)
    return table


def parse_table(raw: bytes) -> RoutingTable:
    """A table out of JSON. Raises ConfigError that lists every problem."""
    try:
        table = RoutingTable.model_validate_json(raw)
    except ValidationError as error:
        raise ConfigError("this is not a routing table", problems=explained(error, RoutingTable)) from None
    problems = problems_with(table)
    if problems:
        raise ConfigError("this routing table cannot be served", problems=problems)
    return table


def problems_with(table: RoutingTable, where: str = "") -> list[Problem]:
    """What the types cannot say: names go into HTTP headers and metrics' labels."""
    found = []
    for name, route in table.routes.items():
        for what, value in [("route", name), *(("variant", variant) for variant in route.variants)]:
            if not NAME.fullmatch(value):
                cure = "use up to 128 letters, digits and . _ : / @ + -"
                found.append(Problem(f"{where}routes.{name}", f"{what} name {value!r} cannot be used", cure))
        for parameter in route.policy.refused_parameters:
            if not any(parameter in endpoint.parameters for endpoint in ENDPOINTS):
                cure = "no client may set it anyway; name one of those in docs/gateway.md"
                found.append(Problem(f"{where}routes.{name}.policy", f"unknown parameter {parameter!r}", cure))
    return found


class StateFile:
    """Where the last table and its lease are kept between two processes."""

    def __init__(self, path: Path):
        self._path = path
        self._turn = asyncio.Lock()

    def read(self) -> Kept | None:
        """What was kept. A file that cannot be understood is set aside, and reported, rather than overwritten.

        Raises SlipwayError if it cannot be read at all.
        """
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SlipwayError(f"the kept table cannot be read: {error.strerror}", where=str(self._path)) from None
        try:
            data = orjson.loads(raw)
            table = parse_table(orjson.dumps(data["table"]))
            return Kept(table, float(data["renewed_at"]), float(data["expires_at"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, ConfigError) as error:
            aside = set_aside(self._path)
            log.error(
                "the kept table is unreadable; starting without one", extra={"cause": str(error), "kept": str(aside)}
            )
            return None

    async def write(self, tables: Tables) -> bool:
        """Keeps what is served now. False, and a line in the log, if it cannot be written.

        The table is served all the same: a rollback must take effect on a full disk too.
        """
        async with self._turn:
            kept = tables.kept()
            if kept is None:
                return True
            data = {
                "table": kept.table.model_dump(mode="json"),
                "renewed_at": kept.renewed_at,
                "expires_at": kept.expires_at,
            }
            try:
                await asyncio.to_thread(replace_file, self._path, orjson.dumps(data, option=orjson.OPT_INDENT_2))
            except OSError as error:
                log.error("the table is served but could not be kept", extra={"cause": str(error)})
                return False
            return True


def for_the_owner(path: str, flags: int) -> int:
    """`open`'s opener for a file that nobody else may read: it may hold prompts."""
    return os.open(path, flags, 0o600)


def set_aside(path: Path) -> Path:
    """Moves what cannot be understood out of the way; where it is now."""
    aside = path.with_suffix(path.suffix + ".unreadable")
    os.replace(path, aside)
    return aside


def replace_file(path: Path, data: bytes) -> None:
    """Writes the file whole, or leaves the former one; only its owner may read it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb", opener=for_the_owner) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
