"""What commands have in common: their options, and how they speak. Importing this imports neither Prefect nor torch."""

import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import SlipwayError
from delivery.progress import Repetition

if TYPE_CHECKING:
    from configs import project as projects

ProjectOption = Annotated[Path, typer.Option("--project", "-p", help="The folder of YAML files of the route.")]
Home = Annotated[Path, typer.Option(envvar="SLIPWAY_HOME", help="Where datasets, adapters, bundles, ledger are kept.")]
By = Annotated[str | None, typer.Option(help="Who decides; kept in the ledger. By default your user name.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the ledger.")]
AcceptBlind = Annotated[
    bool, typer.Option("--accept-blind-plan", help="Release although a stage of the plan can detect nothing.")
]
TUTOR = Path("configs/tutor")
STATE = Path(".slipway")
LONGEST_NAME = 200  # that the ledger keeps


def decider(by: str | None) -> str:
    """The name that was given, else the user's."""
    name = by or getpass.getuser()
    if len(name) > LONGEST_NAME:
        raise SlipwayError(f"a name has at most {LONGEST_NAME} characters, found {len(name)}", where="--by")
    return name


def project_of(folder: Path) -> "projects.Project":
    """The folder's project."""
    from configs.project import load_project

    return load_project(folder)


def require_prefect(home: Path) -> None:
    """Prefect answers. Call it before a flow is imported."""
    from tasks.prefect_server import require_prefect_server

    require_prefect_server(home, narrate)


def say(text: str) -> None:
    """A line on standard error."""
    typer.echo(f"  {text}", err=True)


_repetition = Repetition()


def narrate(done: int, total: int, text: str) -> None:
    """How far long work has come, on standard error."""
    if _repetition.is_due(text, time.monotonic()):
        typer.echo(f"  {f'{done}/{total} ' if total else ''}{text}", err=True)
