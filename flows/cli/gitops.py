"""Commands for environments that come out of Git: `slipway gitops ...`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import STATE, TUTOR, Home, ProjectOption, project_of

commands = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Environments that a chart in Git describes.")
commands.add_typer(group, name="gitops")


@group.command()
def values(project: ProjectOption = TUTOR) -> None:
    """Print the chart's values for an environment on Kubernetes: all but adapters and routes, as YAML."""
    from configs.loading import as_yaml
    from tasks.serving.gitops.values import values_of

    typer.echo(as_yaml(values_of(project_of(project))), nl=False)


@group.command()
def promote(
    from_: Annotated[Path, typer.Option("--from", help="The project folder whose environment serves the bundle now.")],
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    from_home: Annotated[
        Path | None, typer.Option(help="The state folder of that environment; by default the same.")
    ] = None,
) -> None:
    """Say whether what another environment serves may be released here. Exit status 1: not, or not yet."""
    from contextlib import closing

    from tasks.release.promotion import may_be_promoted, render
    from tasks.release.site import open_ledger

    before, after = project_of(from_), project_of(project)
    with (
        closing(open_ledger(before.environment, from_home or home)) as ledger,
        closing(open_ledger(after.environment, home)) as own_ledger,
    ):
        found = may_be_promoted((before, ledger), (after, own_ledger), time.time())
    typer.echo(render(found, str(project)))
    raise typer.Exit(0 if found.standing == "promote" else 1)
