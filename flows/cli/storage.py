"""The command that makes room, below the state folder and in a registry: gc."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import STATE, TUTOR, Home, ProjectOption, narrate, project_of

if TYPE_CHECKING:
    from tasks.release.clean_up import Cleaned

commands = typer.Typer()


@commands.command()
def gc(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    keep: Annotated[int | None, typer.Option(min=1, help="The newest bundles of each route that stay.")] = None,
    keep_days: Annotated[float | None, typer.Option(min=0, help="Nothing that is younger goes.")] = None,
    registry: Annotated[
        bool, typer.Option("--registry", help="Clean up registry.repository instead of the state folder.")
    ] = False,
    repository: Annotated[
        str | None, typer.Option("--repository", help="With --registry: another one, as HOST/PATH.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and why, and remove nothing.")] = False,
) -> None:
    """Remove old bundles, adapters, datasets, trainings and eval results that nothing needs any more.

    With --registry: delete old bundles with their signatures from a registry. Only those go that a ledger here knows.

    What is live, what a rollback goes back to, what a release under way needs, a quarantined bundle, and all that these
    refer to, stays. Limits that are not given come from environment.yaml: retention.
    """
    from tasks.release.clean_up import clean

    environment = project_of(project).environment
    given = {"keep_bundles": keep, "keep_days": keep_days}
    policy = environment.retention.model_copy(update={name: n for name, n in given.items() if n is not None})
    if registry or repository:
        from tasks.release.clean_up_registry import clean_registry

        now, where = time.time(), repository or str(environment.registry.repository)
        found = clean_registry(environment, home, repository, policy, now, dry_run=dry_run, on_progress=narrate)
        text = render(found, f"in {where}", dry_run=dry_run)
        typer.echo(
            text if dry_run else f"{text}\nthe registry's own garbage collection frees what nothing leads to now"
        )
        return
    found = clean(environment, home, policy, time.time(), dry_run=dry_run, on_progress=narrate)
    typer.echo(render(found, f"below {home}", dry_run=dry_run))


def render(found: "Cleaned", where: str, *, dry_run: bool) -> str:
    """What goes, by kind and with its reason, and what keeps the bundles that stay."""
    removals = [one for one in found.cleanup.removals if dry_run or one.ref in found.removed]
    verb = "would be removed" if dry_run else "removed"
    lines = [f"{verb}: {one.ref.kind} {one.ref.name}, {_size(one.size)}: {one.reason}" for one in removals]
    lines += [f"stays: bundle {name}: {why}" for name, why in sorted(found.cleanup.kept["bundle"].items())]
    counts = [f"{len(names)} {kind}" for kind, names in found.cleanup.kept.items() if names and kind != "bundle"]
    if counts:
        lines.append(f"stays: {', '.join(counts)}")
    lines += [f"left alone: {problem}" for problem in found.left_alone]
    total = _size(sum(one.size for one in removals))
    return "\n".join([*lines, f"{len(removals)} {verb} {where}, {total}"])


def _size(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 2**10:,.1f} KiB"
