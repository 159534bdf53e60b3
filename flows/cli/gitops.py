"""Commands for environments that come out of Git: `slipway gitops ...`."""

import typer

from flows.cli.options import TUTOR, Project, project_of

commands = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Environments that a chart in Git describes.")
commands.add_typer(group, name="gitops")


@group.command()
def values(project: Project = TUTOR) -> None:
    """Print the chart's values for an environment on Kubernetes: all but adapters and routes, as YAML."""
    from configs.loading import as_yaml
    from tasks.serving.gitops.values import values_of

    typer.echo(as_yaml(values_of(project_of(project))), nl=False)
