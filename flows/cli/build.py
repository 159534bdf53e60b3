"""Commands for bundles: build one, list them."""

import typer

from flows.cli.options import STATE, TUTOR, Home, Project, require_prefect, say

commands = typer.Typer()


@commands.command()
def build(project: Project = TUTOR, home: Home = STATE) -> None:
    """Version the data, train, evaluate, judge, package. Exit status 1 when the eval gate refuses the bundle."""
    from tasks.preflight import before_build, load_for

    load_for(project, home, "the build cannot start", lambda found: before_build(found, home))
    require_prefect(home)
    from flows.build import build as flow
    from flows.build import ended

    outcome = ended.of(lambda: flow(project=str(project), home=home, return_state=True), say)
    typer.echo(outcome.render())
    raise typer.Exit(0 if outcome.passed else 1)


@commands.command()
def bundles(home: Home = STATE) -> None:
    """List the bundles, newest first."""
    from flows.cli.status import render_bundles

    typer.echo(render_bundles(home))
