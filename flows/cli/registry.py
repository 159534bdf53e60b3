"""Commands for bundles on their way: push, pull, verify, sign."""

import time
from typing import Annotated

import typer

from flows.cli.options import STATE, TUTOR, Home, ProjectOption, narrate, project_of

commands = typer.Typer()

BundleArgument = Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")]


@commands.command()
def push(
    bundle: BundleArgument,
    reference: Annotated[
        str | None,
        typer.Argument(help="HOST/PATH[:TAG]; by default registry.repository, and the variant's name as the tag."),
    ] = None,
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    move_tag: Annotated[bool, typer.Option("--move-tag", help="The tag may lead elsewhere until now.")] = False,
) -> None:
    """Put a bundle, signed where a key is named, into a registry. What the registry has is not sent again."""
    from flows.cli.published import render_push
    from tasks.release.published import push_bundle

    environment = project_of(project).environment
    typer.echo(render_push(push_bundle(environment, home, bundle, reference, move_tag=move_tag, on_progress=narrate)))


@commands.command()
def pull(
    reference: Annotated[str, typer.Argument(help="HOST/PATH@DIGEST, or HOST/PATH:TAG to have its digest found.")],
    project: ProjectOption = TUTOR,
    home: Home = STATE,
) -> None:
    """Fetch a bundle from a registry, verified byte for byte, with the signatures that environment.yaml asks for."""
    from flows.cli.published import render_pull
    from tasks.release.published import pull_bundle

    typer.echo(render_pull(pull_bundle(project_of(project).environment, home, reference, time.time(), narrate)))


@commands.command()
def verify(
    bundle: Annotated[str, typer.Argument(help="A bundle's digest, or HOST/PATH@DIGEST of one in a registry.")],
    project: ProjectOption = TUTOR,
    home: Home = STATE,
) -> None:
    """Verify every byte of a bundle here, or in a registry, and say who signed it. Exit status 2 when it is refused."""
    from flows.cli.published import render_verified
    from tasks.release.published import verify_bundle

    environment = project_of(project).environment
    found = verify_bundle(environment, home, bundle, time.time(), narrate)
    typer.echo(render_verified(found, environment.signatures))


@commands.command()
def sign(bundle: BundleArgument, project: ProjectOption = TUTOR, home: Home = STATE) -> None:
    """Sign a bundle here with this machine's key: SLIPWAY_SIGNING_KEY, or signatures.sign_with."""
    from tasks.release.published import sign_bundle

    signed = sign_bundle(project_of(project).environment, home, bundle)
    typer.echo(f"{'signed' if signed.is_new else 'signed already'}: {signed.layout}")
