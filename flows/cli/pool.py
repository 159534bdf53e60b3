"""The command for the work pool: what Prefect is to be told of it, as files."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import TUTOR, Project, project_of

commands = typer.Typer()


@commands.command()
def pool(
    project: Project = TUTOR,
    into: Annotated[Path, typer.Option(help="The folder that the files are written into.")] = Path("pool"),
) -> None:
    """Write a job template and deployments for the work pool of pool.yaml, and say what makes Prefect take them."""
    from configs.errors import SlipwayError
    from delivery.clients.fresh_folder import explained_writes
    from flows.pools.files import DEPLOYMENTS, TEMPLATE, kind_of, pool_files

    wanted = project_of(project).pool
    if wanted is None:
        raise SlipwayError("the project names no work pool", where=str(project / "pool.yaml"), cure="write this file")
    with explained_writes(into, "the files of the work pool"):
        into.mkdir(parents=True, exist_ok=True)
        for name, text in pool_files(wanted).items():
            (into / name).write_text(text, encoding="utf-8")
    template = f"--base-job-template {into / TEMPLATE}"
    typer.echo(f"wrote {into / TEMPLATE} and {into / DEPLOYMENTS}\n\nnext:")
    typer.echo(f"  prefect work-pool create {wanted.name} --type {kind_of(wanted)} {template} --overwrite")
    typer.echo(f"  prefect --no-prompt deploy --all --prefect-file {into / DEPLOYMENTS}")
    typer.echo(f"  prefect worker start --pool {wanted.name}")
