"""The commands for a team's own project: `slipway init` writes it, `slipway check` says what would happen."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import STATE, TUTOR, Home, ProjectOption, narrate

commands = typer.Typer()


class ProjectKind(StrEnum):
    """What the adapter is to do."""

    chat = "chat"
    json = "json"
    classify = "classify"
    tutor = "tutor"


@commands.command()
def init(
    name: Annotated[Path, typer.Argument(help="The folder to write; its name is the route that clients ask for.")],
    data: Annotated[
        Path | None, typer.Option(help="Rows to learn from: a file, a folder of files, or a `datasets` folder.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The base model: a folder, or NAME@COMMIT on the hub. By default an embedded one."),
    ] = None,
    kind: Annotated[ProjectKind | None, typer.Option(help="By default told from the data.")] = None,
    question: Annotated[str | None, typer.Option(help="The rows' field with what is asked.")] = None,
    answer: Annotated[str | None, typer.Option(help="The rows' field with what is answered.")] = None,
) -> None:
    """Write a project folder, every file commented, from a look at your data. Takes seconds and needs no GPU."""
    from flows.cli.init import render
    from tasks.projects.init import init as write

    folder, found = write(name, data, model, kind.value if kind else None, question, answer)
    typer.echo(render(folder, found))


@commands.command()
def check(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
) -> None:
    """Say what a build and a release would do: rows, lengths, split, what the model sees, what plan and gate can show.

    Nothing is trained and nothing is served. Exit status 2 for what would end the build, all of it at once.
    """
    from flows.cli.check import render
    from tasks.preflight import before_check, load_for
    from tasks.projects.check import check as look

    settings = load_for(project, home, "the project cannot be built", before_check)
    typer.echo(render(look(settings, home, narrate), colours=sys.stdout.isatty()))
