"""`python -m demo`: the product's story on the embedded default. It takes minutes."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.main import main
from flows.cli.options import STATE

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    home: Annotated[
        Path, typer.Option(help="The demo's own state, emptied first but for the base model; no other folder is.")
    ] = (STATE / "demo"),
) -> None:
    """Run the product's story on the embedded default: builds, releases, a refusal, two rollbacks."""
    from demo.story import demo as story

    typer.echo(story(home))


if __name__ == "__main__":
    main(app)
