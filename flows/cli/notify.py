"""The command for notifications: a test of every receiver, and another try of what did not arrive."""

from typing import Annotated

import typer

from flows.cli.options import STATE, TUTOR, By, Home, ProjectOption, decider, project_of

commands = typer.Typer()


@commands.command()
def notify(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    test: Annotated[bool, typer.Option("--test", help="Send everybody a test message; nothing else is sent.")] = False,
    receiver: Annotated[
        list[str] | None, typer.Option(help="Only this one of environment.yaml's notifications; may be repeated.")
    ] = None,
    by: By = None,
) -> None:
    """Send again what people were not told yet, or a test message, and say what each receiver answers.

    Exit status 2 when some receiver did not take its message.
    """
    from contextlib import closing

    from tasks.notify.deliver import deliver_waiting, send_test
    from tasks.release.site import open_ledger

    settings, wanted = project_of(project), receiver or []
    if test:
        answers = send_test(settings.environment, settings.route, wanted, decider(by))
    else:
        with closing(open_ledger(settings.environment, home)) as ledger:
            answers = deliver_waiting(settings.environment, ledger, wanted)
    for answer in answers:
        said = answer.said if answer.said is not None else "no answer yet"
        what = said if isinstance(said, str) else " ".join(said.what.split())
        typer.echo(
            f"{answer.receiver:12} {'ok  ' if answer.ok else 'FAIL'} {what}" + ("" if test else f" ({answer.title})")
        )
        if not isinstance(said, str) and said.cure:
            typer.echo(f"{'':12}      -> {said.cure}")
    if not answers:
        typer.echo("nothing waits to be told")
    raise typer.Exit(0 if all(answer.ok for answer in answers) else 2)
