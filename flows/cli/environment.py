"""Commands for what runs: up, down, status."""

import json
from typing import Annotated

import typer

from flows.cli.options import STATE, TUTOR, Home, ProjectOption, narrate, project_of

commands = typer.Typer()


@commands.command()
def up(project: ProjectOption = TUTOR, home: Home = STATE) -> None:
    """Start the environment: vLLM, the gateway, their supervisor; serve the live bundle, at first the base model.

    Where others run vLLM and gateways (target.kind external) they are checked and registered, not started.
    """
    from tasks.serving.environment import start

    typer.echo(start(project_of(project), home, narrate).summary())


@commands.command()
def down(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    everything: Annotated[
        bool, typer.Option("--all", help="Of every environment below the state folder, and what else runs there.")
    ] = False,
) -> None:
    """End what `up` started. Ledger, bundles and caches stay, and so do vLLM and gateways that others run."""
    from tasks.serving.environment import stop, stop_all

    ended = stop_all(home) if everything else stop(project_of(project), home)
    typer.echo(f"ended: {', '.join(ended)}" if ended else "nothing was running")


@commands.command()
def status(
    project: ProjectOption = TUTOR, home: Home = STATE, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Show what runs, who gets which share, what is live, and what is under way."""
    from flows.cli.status import as_dict, render
    from tasks.serving.environment import status as look

    found = look(project_of(project), home)
    typer.echo(json.dumps(as_dict(found), indent=2) if as_json else render(found))
