"""Commands for the work pool that builds where the GPUs are: write what Prefect takes, and compare what it has."""

from pathlib import Path
from typing import Annotated

import typer

from configs.errors import SlipwayError
from flows.cli.options import TUTOR, ProjectOption, project_of

commands = typer.Typer()
pool = typer.Typer(no_args_is_help=True, help="The Prefect work pool of pool.yaml: builds run where the GPUs are.")
commands.add_typer(pool, name="pool")


@pool.command()
def write(
    project: ProjectOption = TUTOR,
    into: Annotated[Path, typer.Option(help="The folder that the files are written into.")] = Path("pool"),
) -> None:
    """Write the pool's job template and its deployments, and say what makes Prefect take them."""
    from delivery.clients.fresh_folder import explained_writes
    from flows.pools.files import pool_files, steps
    from flows.pools.fit import fitting_pool

    wanted = fitting_pool(project_of(project))
    files = pool_files(wanted)
    with explained_writes(into, "the files of the work pool"):
        into.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (into / name).write_text(text, encoding="utf-8")
    typer.echo(f"wrote {' and '.join(str(into / name) for name in files)}\n\nnext:")
    for command in steps(wanted, str(into)):
        typer.echo(f"  {command}")


@pool.command()
def trainjob(
    project: ProjectOption = TUTOR,
    runtime: Annotated[str, typer.Option(help="The cluster's training runtime.")] = "torch-distributed",
    key: Annotated[
        list[str] | None, typer.Option(help="SECRET/KEY of a Secret of pool.yaml, for the run's environment.")
    ] = None,
) -> None:
    """Print a Kubeflow Trainer TrainJob that builds once in one of the pool's pods; `kubectl create -f -` takes it."""
    import yaml

    from flows.pools.fit import fitting_pool
    from flows.pools.train_job import train_job

    typer.echo(yaml.safe_dump(train_job(fitting_pool(project_of(project)), runtime, key or []), sort_keys=False))


@pool.command()
def check(project: ProjectOption = TUTOR) -> None:
    """Compare the pool on Prefect's server with pool.yaml, and see that a worker is there."""
    from flows.pools.check import deployment_names, pool_problems
    from flows.pools.fit import fitting_pool
    from tasks.prefect_pool import look_at_pool
    from tasks.prefect_server import require_named_server

    wanted = fitting_pool(project_of(project))
    require_named_server()
    found = look_at_pool(wanted.name, deployment_names(wanted))
    problems = tuple(pool_problems(wanted, found))
    if problems:
        what = f"the pool {wanted.name} is not ready: {len(problems)} problem(s)"
        raise SlipwayError(what, problems=problems)
    online = [name for name, alive in sorted(found.workers.items()) if alive] if found else []
    typer.echo(f"the pool {wanted.name} is as pool.yaml says; online: {', '.join(online)}")
