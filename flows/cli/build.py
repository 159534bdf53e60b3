"""Commands for bundles: build one, list them, look into one, build one again."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.ci import JUnit, Summary, require_places, write_reports
from flows.cli.options import STATE, TUTOR, Home, ProjectOption, narrate, project_of, require_prefect, say

commands = typer.Typer()


class MergedDtype(StrEnum):
    """The number format of a merged model's weights."""

    auto = "auto"
    float32 = "float32"


@commands.command()
def build(project: ProjectOption = TUTOR, home: Home = STATE, junit: JUnit = None, summary: Summary = None) -> None:
    """Version the data, train, evaluate, judge, package. Exit status 1 when the eval gate refuses the bundle."""
    from tasks.preflight import before_build, load_for

    require_places(junit, summary)
    load_for(project, home, "the build cannot start", lambda found: before_build(found, home))
    require_prefect(home)
    from flows.build import build as flow
    from flows.build import ended

    outcome = ended.of(lambda: flow(project=str(project), home=home, return_state=True), say)
    typer.echo(outcome.render())
    write_reports(junit, summary, project_of(project).route, outcome.bundle, outcome.gate)
    raise typer.Exit(0 if outcome.passed else 1)


@commands.command()
def bundles(home: Home = STATE) -> None:
    """List the bundles, newest first."""
    from flows.cli.status import render_bundles

    typer.echo(render_bundles(home))


@commands.command()
def show(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")],
    document: Annotated[str | None, typer.Argument(help="A document to print, e.g. README.md.")] = None,
    home: Home = STATE,
) -> None:
    """Show what a bundle is made of and which documents lie in its image, or print one of them."""
    from configs.errors import SlipwayError
    from delivery.clients.bundles.images import read_bundle, read_documents
    from flows.cli.shown_bundle import render

    found = read_bundle(home, bundle)
    layout, documents = read_documents(home, found.digest)
    if document is None:
        typer.echo(render(found, layout, documents))
        return
    if document not in documents:
        known = ", ".join(sorted(documents)) or "none: it was made before bundles had any"
        raise SlipwayError(f"{document!r} is no document of this bundle", where=str(layout), cure=f"its own: {known}")
    sys.stdout.buffer.write(documents[document])


@commands.command()
def rebuild(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")],
    project: ProjectOption = TUTOR,
    home: Home = STATE,
) -> None:
    """Train a bundle's adapter again, from its manifest alone, and say what differs. Exit status 1 for other bytes.

    The project says where the base model comes from; rows, settings, seed and prompt are the bundle's own.
    """
    from tasks.release.rebuild import rebuild as again

    found = again(project_of(project), home, bundle, narrate)
    typer.echo(found.render())
    raise typer.Exit(0 if found.comparison.is_same else 1)


@commands.command()
def merge(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")],
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    dtype: Annotated[
        MergedDtype, typer.Option(help="Of the weights: auto is the base model's own; float32 rounds nothing away.")
    ] = MergedDtype.auto,
) -> None:
    """Merge a bundle's adapter into its base model, as a bundle of its own that the eval gate compares with its parent.

    Exit status 1 when the gate refuses it.
    """
    from tasks.release.merge import merge_bundle

    found = merge_bundle(project_of(project), home, bundle, narrate, dtype.value)
    typer.echo(found.render())
    raise typer.Exit(0 if found.gate.passed else 1)


@commands.command()
def stack(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")],
    environment: Annotated[
        Path, typer.Option(help="An environment.yaml, whose `vllm` is the changed stack: dtype, extra_args, python.")
    ],
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    context: Annotated[int | None, typer.Option(min=1, help="Its context in tokens; by default model.yaml's.")] = None,
) -> None:
    """Ask a bundle on the vLLM of today and on a changed one, and let the eval gate compare them.

    Nothing that runs is touched. Exit status 1 when the gate refuses the changed stack.
    """
    from configs.environment import Environment
    from configs.errors import ConfigError
    from configs.loading import check as read
    from tasks.release.stack import compare_stacks

    changed, problems = read(environment, Environment)
    if changed is None:
        raise ConfigError("the changed stack cannot be read", problems=problems)
    found = compare_stacks(project_of(project), home, bundle, changed.vllm, context, narrate)
    typer.echo(found.render())
    raise typer.Exit(0 if found.gate.passed else 1)
