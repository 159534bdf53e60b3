"""Commands for dataset versions: build one, look into one, compare two, ask who learned from a row, erase rows."""

import time
from pathlib import Path
from typing import Annotated

import typer

from configs.canonical import short
from configs.errors import SlipwayError
from flows.cli.options import STATE, TUTOR, By, Home, ProjectOption, decider, narrate, project_of
from flows.cli.teach import teach

commands = typer.Typer()
dataset = typer.Typer(no_args_is_help=True, help="Dataset versions: their rows, what changed, who learned from them.")
commands.add_typer(dataset, name="dataset")
dataset.command()(teach)

Version = Annotated[str, typer.Argument(help="A version's digest, or its first 12 hex digits.")]


@dataset.command()
def build(project: ProjectOption = TUTOR, home: Home = STATE) -> None:
    """Make the version of the recipe and the sources as they are now, and compare it with the eval suites."""
    from tasks.data.of_project import judge_overlap, version_of
    from tasks.preflight import before_check, load_for
    from tasks.training.model import prepare_model

    settings = load_for(project, home, "the dataset cannot be built", before_check)
    version = version_of(settings, prepare_model(settings.model, home, narrate), home, narrate)
    typer.echo(version.render())
    typer.echo(judge_overlap(settings, version).render())


@dataset.command()
def show(
    version: Annotated[str | None, typer.Argument(help="A version's digest; without one all are listed.")] = None,
    home: Home = STATE,
) -> None:
    """Show what a version is made of and what became of its rows, or list all versions, the newest first."""
    from tasks.data.looking import shown, versions
    from tasks.data.store import read_version

    if version is not None:
        typer.echo(shown(read_version(home, version)))
        return
    lines = [
        f"{short(found.digest)}  {found.name:20} {found.parts['train'].rows:>9,} to train on, "
        f"{found.parts['holdout'].rows:>7,} held out, {found.read - found.kept:>7,} left out"
        for _, found in versions(home)
    ]
    typer.echo("\n".join(lines) or "no dataset versions yet: slipway dataset build")


@dataset.command()
def diff(before: Version, after: Version, home: Home = STATE) -> None:
    """Say what changed between two versions: recipe, sources, rows, lengths, and what the rows' fields hold."""
    from tasks.data.looking import difference

    typer.echo(difference(home, before, after).render())


@dataset.command()
def lineage(
    row: Annotated[
        str | None, typer.Option(help="A row's id: which adapters learned from it, and what is live.")
    ] = None,
    bundle: Annotated[str | None, typer.Option(help="A bundle's digest: which rows are behind it.")] = None,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
) -> None:
    """Say who learned from a row, or which rows are behind a bundle."""
    from tasks.release.lineage import bundle_rows, row_lineage

    if (row is None) == (bundle is None):
        raise SlipwayError("exactly one of --row, --bundle is needed", cure="slipway dataset lineage --row ID")
    if row is not None:
        typer.echo(row_lineage(project_of(project).environment, home, row).render())
    else:
        typer.echo(bundle_rows(home, str(bundle)))


@dataset.command()
def erase(
    reason: Annotated[str, typer.Option(help="Why; kept on record. Do not name the person here.")],
    where: Annotated[str | None, typer.Option(help="FIELD=VALUE: the rows whose field has this value.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="A row's id; may be given several times.")] = None,
    user: Annotated[
        str | None, typer.Option(help="The traffic log's pseudonym: their reviewed rows, and all in the review queue.")
    ] = None,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    refresh: Annotated[
        bool, typer.Option(help="Build and release anew where an adapter that is live learned from them.")
    ] = True,
) -> None:
    """Erase a person from every dataset version, all later ones and the review queue; name who learned from them.

    The sources are yours: the rows go from there by your hand. Where a live adapter learned from the rows, a refresh
    without them follows, and the exit status is the refresh's.
    """
    from tasks.release.lineage import learners, quoted_in
    from tasks.review.erase import erase_person

    if (where is not None and row) or not (where or row or user):
        what = "one of --where, --row, --user is needed; --user goes with either of the others"
        raise SlipwayError(what, cure="--where user_id=u17, or --row ID, or --user PSEUDONYM")
    settings, who = project_of(project), decider(by)
    found = erase_person(settings, home, _pair(where), row or (), user, who, reason, time.time(), dry_run=dry_run)
    typer.echo(found.render())
    told = learners(settings.environment, home, found.versions_of("train"))
    for one in told:
        typer.echo(f"  {one.render()}")
    for bundle in quoted_in(home, found.versions_of("holdout")):
        typer.echo(
            f"  bundle {bundle} may quote held-out rows of these in its eval report; slipway gc removes it in time"
        )
    typer.echo("  the sources are as they were: take the rows out there, too")
    if not any(one.is_live for one in told):
        typer.echo("no live adapter learned from them" if told else "no adapter learned from them")
    elif dry_run or not refresh:
        typer.echo(f"next: slipway refresh --project {project}")
    else:
        from flows.cli.release import refresh as start

        start(project=project, home=home, accept_blind_plan=False, by=who)


def _pair(where: str | None) -> tuple[str, str] | None:
    if where is None:
        return None
    field, equals, value = where.partition("=")
    if not (field and equals and value):
        raise SlipwayError(f"{where!r} is not FIELD=VALUE", where="--where", cure="--where user_id=u17")
    return field, value


@dataset.command()
def export(
    version: Version,
    out: Annotated[Path, typer.Option(help="The folder to write; it must not be there yet.")],
    project: ProjectOption = TUTOR,
    home: Home = STATE,
) -> None:
    """Write a version's rows with a description in Croissant, validated; the licence is the project's."""
    from tasks.data.croissant import export as write
    from tasks.data.store import read_version

    found = read_version(home, version)
    typer.echo(f"{short(found.digest)} is written: {write(found, project_of(project).dataset.license, out)}")
