"""Commands for what a named person decides: rollback, approve, lift-quarantine."""

import os
import shlex
from enum import StrEnum
from typing import Annotated

import typer

from flows.cli.options import STATE, TUTOR, By, Home, ProjectOption, ReasonOption, decider, narrate, project_of

commands = typer.Typer()


class RollbackTo(StrEnum):
    """What a manual rollback falls back to."""

    previous = "previous"
    base = "base"


@commands.command()
def rollback(
    reason: ReasonOption,
    release: Annotated[
        str | None,
        typer.Argument(help="The release, or the beginning of its bundle's digest; by default the newest release."),
    ] = None,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    to: Annotated[RollbackTo, typer.Option(help="What to serve: the previous bundle, or the base model.")] = (
        RollbackTo.previous
    ),
    no_quarantine: Annotated[
        bool, typer.Option("--no-quarantine", help="The bundle is not to blame: it may be released again.")
    ] = False,
    by: By = None,
) -> None:
    """Give the previous bundle (or the base) all traffic, at once, whatever state the release is in. Safe to repeat.

    Without a name the newest release is meant, and nothing more once it is taken back: a second step back needs a name.
    Exit status 2 when something is left to do, which is said: a gateway that does not answer, a full disk.
    """
    from tasks.release.rollback import rollback_in

    outcome = rollback_in(
        project_of(project),
        home,
        by=decider(by),
        reason=reason,
        release=release,
        to=to.value,
        quarantine=not no_quarantine,
        on_progress=narrate,
    )
    command = "slipway rollback" + ("" if project == TUTOR else f" --project {shlex.quote(str(project))}")
    command += "" if home == STATE or "SLIPWAY_HOME" in os.environ else f" --home {shlex.quote(str(home))}"
    command += " --to base" if to == RollbackTo.base else ""
    typer.echo(outcome.render(command, reason), err=not outcome.is_done)
    raise typer.Exit(0 if outcome.is_done else 2)


@commands.command()
def approve(
    reason: ReasonOption,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    reject: Annotated[bool, typer.Option("--reject", help="Turn it down: the release is rolled back.")] = False,
    by: By = None,
) -> None:
    """Answer for the stage that waits for a person's approval."""
    from tasks.release.run import approve as answer
    from tasks.release.site import open_site_of

    settings = project_of(project)
    with open_site_of(settings, home) as site:
        release_id = answer(site, settings.route, approved=not reject, by=decider(by), reason=reason)
    typer.echo(f"{'rejected' if reject else 'approved'}: {release_id}")


@commands.command()
def lift_quarantine(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")],
    reason: ReasonOption,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    by: By = None,
) -> None:
    """Let a bundle be released again that a rollback put into quarantine; who and why are kept in the ledger."""
    import time
    from contextlib import closing

    from tasks.release.quarantine import lift_quarantine as lift
    from tasks.release.site import open_ledger

    with closing(open_ledger(project_of(project).environment, home)) as ledger:
        typer.echo(lift(ledger, home, bundle, by=decider(by), reason=reason, now=time.time()))
