"""The command line. Exit status: 0 done, 1 Slipway judged against it (refused, rolled back), 2 bad input, or not done.

A signal that ends it (Ctrl-C, SIGTERM, a closed terminal) gives 128 + its number, once what it started has been ended.

Imports are late: `slipway rollback` must wait neither for Prefect nor for torch. A new command is one file with a
`commands` of its own, and its name in `PARTS`.
"""

import os
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path

import typer

from configs.errors import SlipwayError
from delivery.clients.processes.interruption import leaving_tidily
from flows.cli import (
    build,
    control,
    dataset,
    decisions,
    environment,
    evidence,
    gitops,
    notify,
    pool,
    projects,
    registry,
    release,
    review,
    storage,
)

PARTS = (
    projects,
    environment,
    build,
    dataset,
    release,
    decisions,
    evidence,
    notify,
    pool,
    registry,
    review,
    storage,
    gitops,
    control,
)

app = typer.Typer(
    name="slipway",
    help="From a dataset and a base model to a LoRA adapter in front of users, in gated steps, and back by itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in PARTS:
    app.add_typer(part.commands)

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def quiet_surroundings(environment: MutableMapping[str, str]) -> None:
    """Telemetry is off unless somebody turned it on.

    Prefect's own server is on this machine, where no proxy of the environment leads.
    """
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    for name, value in defaults.items():
        environment.setdefault(name, value)
    apart = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host.strip() for host in apart.split(",") if host.strip()]
    if "*" not in hosts:
        hosts += [host for host in LOOPBACK if host not in hosts]
    environment["no_proxy"] = environment["NO_PROXY"] = ",".join(hosts)


def main(commands: typer.Typer = app) -> None:
    """The console script: users' errors come without a traceback. Whatever goes wrong, the exit status is 2."""
    quiet_surroundings(os.environ)
    with leaving_tidily():
        try:
            commands()
        except Exception as error:  # noqa: BLE001 - Python's own status for it is 1: "judged against it"
            told = for_users(error)
            if told is None:
                traceback.print_exc()
            else:
                typer.echo(f"slipway: {told.render()}", err=True)
            sys.exit(2)


def for_users(error: Exception) -> SlipwayError | None:
    """What happened and its cure, where that is known; None is a bug, which keeps its traceback."""
    if isinstance(error, SlipwayError):
        return error
    if isinstance(error, OSError):  # a full disk wherever nobody thought of it
        from delivery.clients.fresh_folder import UNWRITABLE, unwritable

        if error.errno in UNWRITABLE:
            return unwritable(error, Path.cwd(), "what the command leaves behind")
    if "prefect" not in sys.modules:
        return None
    from tasks.prefect_server import lost_prefect

    return lost_prefect(error)


if __name__ == "__main__":
    main()
