"""Commands that read what was measured, or would be: plan, replay, experiment, explain, export."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TextIO

import typer

from configs.errors import SlipwayError
from flows.cli.options import STATE, TUTOR, Home, ProjectOption, project_of

commands = typer.Typer()
SHOWN_PROBLEMS = 20


@commands.command()
def plan(
    project: ProjectOption = TUTOR,
    requests_per_s: Annotated[
        float | None, typer.Option(min=1e-6, help="Of the route; by default what the plan says, else plenty.")
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Who ask during a stage; by default what the plan says.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Say what each stage of the release plan can detect with the traffic at hand.

    Exit status 1 for a stage that can detect nothing, or may well reach nobody.
    """
    from delivery.checks.forecast import look_ahead
    from flows.cli.plan import render
    from tasks.preflight import warnings_before_release

    settings = project_of(project)
    rollout = settings.rollout
    found = look_ahead(rollout if users is None else rollout.model_copy(update={"users": users}), requests_per_s)
    typer.echo(found.model_dump_json(indent=2) if as_json else render(found))
    for text in warnings_before_release(settings.environment, rollout):
        typer.echo(f"warning: {text}", err=True)
    raise typer.Exit(1 if found.blind_stages or found.empty_stages else 0)


@commands.command()
def replay(
    log: Annotated[Path, typer.Option(help="A traffic log: a parquet file, or a folder of them.")],
    plan: Annotated[Path, typer.Option(help="A release plan, e.g. configs/tutor/rollout.yaml.")],
    candidate: Annotated[str | None, typer.Option(help="The variant to judge, where the log does not say.")] = None,
    stable: Annotated[str | None, typer.Option(help="The variant to compare with, where the log does not say.")] = None,
    route: Annotated[str | None, typer.Option(help="One route of a log that has several.")] = None,
    tick_s: Annotated[
        float | None, typer.Option(min=0.1, max=60, help="Instead of the plan's; longer is quicker.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Run a release plan over recorded traffic: what would it have decided, when, on which evidence?

    Exit status 1 when the candidate would not be live at the log's end. See docs/traffic-log.md.
    """
    from flows.cli.replay import render
    from tasks.release.replay import replay_log

    found = replay_log(log, plan, route=route, candidate=candidate, stable=stable, tick_s=tick_s)
    typer.echo(found.model_dump_json(indent=2) if as_json else render(found))
    raise typer.Exit(0 if found.outcome == "live" else 1)


@commands.command()
def experiment(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    route: Annotated[str | None, typer.Option(help="By default the project's.")] = None,
    admin: Annotated[
        str | None, typer.Option(help="Another gateway's admin URL; SLIPWAY_ADMIN_TOKEN opens it.")
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of each interval.")] = 0.95,
    log: Annotated[Path | None, typer.Option(help="The gateway's traffic log; by default what it remembers.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Compare the arms of the experiment that a gateway serves: errors, contract, latency, tokens, feedback."""
    from dataclasses import asdict

    from tasks.release.experiment import experiment_report
    from tasks.serving.local import ADMIN_TOKEN
    from tasks.serving.targets import target_of

    if admin is not None and route is not None:
        found = experiment_report(admin, os.environ.get(ADMIN_TOKEN, ""), route, confidence, log)
    else:
        settings = project_of(project)
        target = target_of(settings.environment, home)
        if admin is None and len(target.gateways) > 1:
            names = ", ".join(target.gateways)
            raise SlipwayError("each gateway reports on its own users alone", cure=f"name one with --admin: {names}")
        url = admin or target.gateways[0]
        found = experiment_report(url, target.admin_token(), route or settings.route, confidence, log)
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else found.render())


@commands.command()
def explain(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    release: Annotated[str | None, typer.Option(help="The release's id; by default the newest of the route.")] = None,
    tick: Annotated[int | None, typer.Option(help="Number of the recorded decision, from 1.")] = None,
    last: Annotated[bool, typer.Option("--last", help="The last decision that judged something: the default.")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Show a decision again from the ledger: values, limits, counts, evidence, verdict, who; and compute it again.

    It names the reviewed rows that the release's bundle learned from, with the people who approved them. Exit status 1
    when what was recorded does not follow from its values.
    """
    from contextlib import closing

    from flows.cli.explain import render
    from tasks.release.explain import explain_decision
    from tasks.release.site import open_ledger
    from tasks.review.behind import behind_release

    if last and tick is not None:
        raise SlipwayError("--last and --tick name two decisions", cure="give one of them")
    settings = project_of(project)
    with closing(open_ledger(settings.environment, home)) as ledger:
        found = explain_decision(ledger, settings.environment.name, settings.route, release, tick)
        learned = behind_release(ledger, found.release_id, home)
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json") | {"reviewed": learned.model_dump(mode="json")}, indent=2))
    else:
        typer.echo("\n".join([render(found), *learned.render()]))
    raise typer.Exit(1 if found.differences else 0)


@commands.command(name="export")
def export_ledger(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    verify: Annotated[bool, typer.Option("--verify", help="Follow the ledger's hash chain instead.")] = False,
    exported: Annotated[Path | None, typer.Option("--file", help="Verify what was exported into this file.")] = None,
    head: Annotated[str | None, typer.Option(help="A link that must be in the chain: a head noted earlier.")] = None,
) -> None:
    """Write the whole ledger to standard output, one JSON object a line; or tell whether a row was changed or removed.

    Exit status 1 when --verify finds anything.
    """
    from contextlib import closing

    from tasks.release.site import open_ledger

    if not verify and (head is not None or exported is not None):
        raise SlipwayError("--head and --file belong to --verify", cure="give --verify too")
    if exported is not None:
        with _opened(exported) as lines:
            _say_chain(lines, head, exported)
        return
    with closing(open_ledger(project_of(project).environment, home)) as ledger:
        if verify:
            _say_chain(ledger.export(), head)
            return
        for line in ledger.export():
            typer.echo(line)


def _say_chain(lines: Iterable[str], head: str | None, of: Path | None = None) -> None:
    from delivery.clients.ledger.chain import follow

    found = follow(lines, head)
    if of and not found.rows:
        raise SlipwayError(
            "the export holds no row: nothing is verified", where=str(of), cure="export the ledger again"
        )
    for problem in found.problems[:SHOWN_PROBLEMS]:
        typer.echo(problem)
    if (more := len(found.problems) - SHOWN_PROBLEMS) > 0:
        typer.echo(f"and {more} more")
    if not found.problems:
        typer.echo(f"{found.rows} rows are as they were written; note the head elsewhere: {found.head}")
    raise typer.Exit(1 if found.problems else 0)


def _opened(file: Path) -> TextIO:
    try:
        return file.open(encoding="utf-8")
    except OSError as error:
        raise SlipwayError(f"the export cannot be read: {error.strerror}", where=str(file)) from error
