"""Commands for the control room: serve it, and say who may do what there."""

import sys
import time
from getpass import getpass
from pathlib import Path
from typing import Annotated, get_args

import typer

from configs.control_room import PersonRole
from configs.errors import ConfigError, SlipwayError
from delivery.clients.people import People, people_file
from flows.cli.options import STATE, TUTOR, Home, project_of, say

commands = typer.Typer()
people = typer.Typer(help="Who may use the control room: people with passwords, programs with tokens.")
commands.add_typer(people, name="people")

Roles = Annotated[
    list[str], typer.Option("--role", help="viewer, reviewer, operator or approver; give it several times for several.")
]
NameArgument = Annotated[str, typer.Argument(help="Their name, as the ledger will show it.")]


@commands.command()
def ui(
    project: Annotated[
        list[Path] | None, typer.Option("--project", "-p", help="A route's folder; give it once for each route.")
    ] = None,
    home: Home = STATE,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of the configured one.")] = None,
) -> None:
    """Serve the control room: what is live and under way, who did what, and buttons to act. Ends with Ctrl-C."""
    from flows.control.room import Room
    from flows.control.server import serve

    projects = tuple(project_of(folder) for folder in project or [TUTOR])
    routes = [one.route for one in projects]
    if len(set(routes)) < len(routes):
        raise SlipwayError(f"two projects have the same route: {', '.join(routes)}", cure="show each route once")
    settings = projects[0].environment.control_room
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    serve(Room(projects, home), settings, time.time, say)


@people.command()
def add(
    name: NameArgument,
    role: Roles,
    home: Home = STATE,
    proxy: Annotated[bool, typer.Option("--proxy", help="A proxy signs them in: no password.")] = False,
) -> None:
    """Add somebody, or change their roles and password. The password is asked for, or read from standard input."""
    password = None if proxy else _password()
    _people(home).put(name, _roles(role), password)
    typer.echo(f"{name}: {', '.join(_roles(role))}")


@people.command()
def token(name: NameArgument, role: Roles, home: Home = STATE) -> None:
    """Give a program a token of its own, which is shown once; the earlier one of that name ends."""
    typer.echo(_people(home).put_token(name, _roles(role)))


@people.command()
def remove(name: NameArgument, home: Home = STATE) -> None:
    """Take somebody, or a program's token, out."""
    _people(home).remove(name)
    typer.echo(f"removed: {name}")


@people.command(name="list")
def list_people(home: Home = STATE) -> None:
    """List everybody with their roles; no secret is shown."""
    for name, entry in sorted(_people(home).names().items()):
        how = "token" if entry.token else "password" if entry.password else "proxy"
        typer.echo(f"{name:24} {', '.join(entry.roles):30} {how}")


def _people(home: Path) -> People:
    return People(people_file(home))


def _roles(given: list[str]) -> tuple[PersonRole, ...]:
    known = get_args(PersonRole)
    wrong = [name for name in given if name not in known]
    if wrong:
        raise ConfigError(f"no role: {', '.join(wrong)}", where="--role", cure=f"choose of {', '.join(known)}")
    return tuple(name for name in known if name in given)


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first, again = getpass("Password: "), getpass("Once more: ")
    if first != again:
        raise ConfigError("the two passwords differ", cure="give the command again")
    return first
