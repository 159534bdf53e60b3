"""The command line. Exit status: 0 done, 1 Slipway judged against it (refused, rolled back), 2 bad input, or not done.

A signal that ends it (Ctrl-C, SIGTERM, a closed terminal) gives 128 + its number, once what it started has been ended.

Imports are late: `slipway rollback` must wait neither for Prefect nor for torch.
"""

import getpass
import json
import os
import shlex
import sys
import time
from collections.abc import MutableMapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import SlipwayError, require_all
from configs.watch import LARGEST_HOLDBACK_BP, LONGEST_S, SHORTEST_S
from delivery.clients.processes.interruption import leaving_tidily
from delivery.progress import Repetition

app = typer.Typer(
    name="slipway",
    help="From a dataset and a base model to a LoRA adapter in front of users, in gated steps, and back by itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Project = Annotated[Path, typer.Option("--project", "-p", help="The folder of YAML files of the route.")]
Home = Annotated[Path, typer.Option(envvar="SLIPWAY_HOME", help="Where datasets, adapters, bundles, ledger are kept.")]
By = Annotated[str | None, typer.Option(help="Who decides; kept in the ledger. By default your user name.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the ledger.")]
AcceptBlind = Annotated[
    bool, typer.Option("--accept-blind-plan", help="Release although a stage of the plan can detect nothing.")
]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
TUTOR = Path("configs/tutor")
STATE = Path(".slipway")
LONGEST_NAME = 200  # that the ledger keeps


class RollbackTo(StrEnum):
    """What a manual rollback falls back to."""

    previous = "previous"
    base = "base"


@app.command()
def up(project: Project = TUTOR, home: Home = STATE) -> None:
    """Start the environment: vLLM, the gateway, their supervisor; serve the live bundle, at first the base model."""
    from tasks.serving.environment import start

    where = start(_project(project), home, _narrate)
    typer.echo(f"gateway {where.gateway_url}/v1   admin {where.admin_url}   vLLM {where.vllm_url}")


@app.command()
def down(
    project: Project = TUTOR,
    home: Home = STATE,
    everything: Annotated[
        bool, typer.Option("--all", help="Of every environment below the state folder, and what else runs there.")
    ] = False,
) -> None:
    """End what `up` started. Ledger, bundles and caches stay."""
    from tasks.serving.environment import stop, stop_all

    ended = stop_all(home) if everything else stop(_project(project), home)
    typer.echo(f"ended: {', '.join(ended)}" if ended else "nothing was running")


@app.command()
def status(
    project: Project = TUTOR, home: Home = STATE, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Show what runs, who gets which share, what is live, and what is under way."""
    from flows.cli.status import as_dict, render
    from tasks.serving.environment import status as look

    found = look(_project(project), home)
    typer.echo(json.dumps(as_dict(found), indent=2) if as_json else render(found))


@app.command()
def build(project: Project = TUTOR, home: Home = STATE) -> None:
    """Version the data, train, evaluate, judge, package. Exit status 1 when the eval gate refuses the bundle."""
    from tasks.preflight import before_build, load_for

    load_for(project, home, "the build cannot start", lambda found: before_build(found, home))
    _require_prefect(home)
    from flows.build import build as flow
    from flows.reporting import result_of

    outcome = result_of(flow(project=str(project), home=home, return_state=True))
    typer.echo(outcome.render())
    raise typer.Exit(0 if outcome.passed else 1)


@app.command()
def release(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")],
    project: Project = TUTOR,
    home: Home = STATE,
    candidate_upstream: Annotated[
        list[str] | None, typer.Option(help="Serve the candidate from this vLLM instead of the environment's.")
    ] = None,
    accept_blind_plan: AcceptBlind = False,
    over_broken_stable: Annotated[
        bool,
        typer.Option(
            "--over-broken-stable", help="Give up what is live: the base serves instead, absolute limits alone judge."
        ),
    ] = False,
    reason: Annotated[str, typer.Option(help="Why stable is given up; kept in the ledger.")] = "",
    at_any_hour: Annotated[
        bool, typer.Option("--at-any-hour", help="Do not wait for the plan's release hours.")
    ] = False,
    by: By = None,
) -> None:
    """Take a bundle through shadow, canary, full and watch. Exit status 1 when it is refused or rolled back."""
    from delivery.clients.bundles.images import read_bundle
    from tasks.preflight import before_release
    from tasks.release.broken_stable import over_broken_stable as without_stable

    read_bundle(home, bundle)  # a wrong digest is said at once
    if over_broken_stable != bool(reason.strip()):
        raise SlipwayError("--over-broken-stable and --reason belong together", cure="give both, or none of them")
    settings = without_stable(_project(project)) if over_broken_stable else _project(project)
    checks = before_release(settings, home, candidate_upstream, accept_blind_plan=accept_blind_plan)
    require_all("the release cannot start", checks)
    _require_prefect(home)
    from flows.release import release as flow
    from flows.release import render
    from flows.reporting import result_of

    state = flow(
        bundle=bundle,
        project=str(project),
        home=home,
        candidate_upstreams=candidate_upstream,
        accept_blind_plan=accept_blind_plan,
        broken_stable=reason or None,
        at_any_hour=at_any_hour,
        by=_who(by),
        return_state=True,
    )
    outcome = result_of(state)
    typer.echo(render(outcome))
    raise typer.Exit(0 if outcome.outcome == "live" else 1)


@app.command()
def refresh(
    project: Project = TUTOR, home: Home = STATE, accept_blind_plan: AcceptBlind = False, by: By = None
) -> None:
    """Build, then release what the gate lets through: what the weekly schedule runs."""
    from tasks.preflight import before_refresh, load_for

    what = "nothing can be built and released"
    load_for(project, home, what, lambda found: before_refresh(found, home, accept_blind_plan))
    _require_prefect(home)
    from flows.refresh import refresh as flow
    from flows.release import render
    from flows.reporting import result_of

    who = _who(by)
    state = flow(project=str(project), home=home, by=who, accept_blind_plan=accept_blind_plan, return_state=True)
    outcome = result_of(state)
    typer.echo(render(outcome))
    raise typer.Exit(0 if outcome.outcome == "live" else 1)


@app.command()
def rollback(
    reason: Reason,
    release: Annotated[
        str | None,
        typer.Argument(help="The release, or the beginning of its bundle's digest; by default the newest release."),
    ] = None,
    project: Project = TUTOR,
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
        _project(project),
        home,
        by=_who(by),
        reason=reason,
        release=release,
        to=to.value,
        quarantine=not no_quarantine,
        on_progress=_narrate,
    )
    command = "slipway rollback" + ("" if project == TUTOR else f" --project {shlex.quote(str(project))}")
    command += "" if home == STATE or "SLIPWAY_HOME" in os.environ else f" --home {shlex.quote(str(home))}"
    command += " --to base" if to == RollbackTo.base else ""
    typer.echo(outcome.render(command, reason), err=not outcome.is_done)
    raise typer.Exit(0 if outcome.is_done else 2)


@app.command()
def lift_quarantine(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")],
    reason: Reason,
    project: Project = TUTOR,
    home: Home = STATE,
    by: By = None,
) -> None:
    """Let a bundle be released again that a rollback put into quarantine; who and why are kept in the ledger."""
    import time
    from contextlib import closing

    from tasks.release.quarantine import lift_quarantine as lift
    from tasks.release.site import open_ledger

    with closing(open_ledger(_project(project).environment, home)) as ledger:
        typer.echo(lift(ledger, home, bundle, by=_who(by), reason=reason, now=time.time()))


@app.command()
def approve(
    reason: Reason,
    project: Project = TUTOR,
    home: Home = STATE,
    reject: Annotated[bool, typer.Option("--reject", help="Turn it down: the release is rolled back.")] = False,
    by: By = None,
) -> None:
    """Answer for the stage that waits for a person's approval."""
    from tasks.release.run import approve as answer
    from tasks.release.site import open_site_of

    settings = _project(project)
    with open_site_of(settings, home) as site:
        release_id = answer(site, settings.route, approved=not reject, by=_who(by), reason=reason)
    typer.echo(f"{'rejected' if reject else 'approved'}: {release_id}")


@app.command()
def watch(
    project: Project = TUTOR,
    home: Home = STATE,
    duration_s: Annotated[
        float, typer.Option(min=SHORTEST_S, max=LONGEST_S, help="For how long, in seconds.")
    ] = 3600.0,
    holdback_bp: Annotated[
        int, typer.Option(min=0, max=LARGEST_HOLDBACK_BP, help="Users kept on the previous bundle, in basis points.")
    ] = 0,
) -> None:
    """Go on judging what is live; exit status 1 when it is rolled back."""
    _project(project)
    _require_prefect(home)
    from flows.release import render
    from flows.reporting import result_of
    from flows.watch import watch as flow

    state = flow(project=str(project), home=home, duration_s=duration_s, holdback_bp=holdback_bp, return_state=True)
    outcome = result_of(state)
    typer.echo("nothing was released yet" if outcome is None else render(outcome))
    raise typer.Exit(0 if outcome is None or outcome.outcome == "live" else 1)


@app.command()
def experiment(
    project: Project = TUTOR,
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

    from configs.project import load_project
    from tasks.release.experiment import experiment_report
    from tasks.serving.local import ADMIN_TOKEN, addresses, admin_token

    if admin is not None and route is not None:
        found = experiment_report(admin, os.environ.get(ADMIN_TOKEN, ""), route, confidence, log)
    else:
        settings = load_project(project)
        token = admin_token(settings.environment, home)
        url = admin or addresses(settings.environment).admin_url
        found = experiment_report(url, token, route or settings.route, confidence, log)
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else found.render())


@app.command()
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

    Exit status 1 when the candidate would not be live at the log's end. See delivery/TRAFFIC_LOG.md.
    """
    from flows.cli.replay import render
    from tasks.release.replay import replay_log

    found = replay_log(log, plan, route=route, candidate=candidate, stable=stable, tick_s=tick_s)
    typer.echo(found.model_dump_json(indent=2) if as_json else render(found))
    raise typer.Exit(0 if found.outcome == "live" else 1)


@app.command()
def plan(
    project: Project = TUTOR,
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

    rollout = _project(project).rollout
    found = look_ahead(rollout if users is None else rollout.model_copy(update={"users": users}), requests_per_s)
    typer.echo(found.model_dump_json(indent=2) if as_json else render(found))
    raise typer.Exit(1 if found.blind_stages or found.empty_stages else 0)


@app.command()
def explain(
    project: Project = TUTOR,
    home: Home = STATE,
    release: Annotated[str | None, typer.Option(help="The release's id; by default the newest of the route.")] = None,
    tick: Annotated[int | None, typer.Option(help="Number of the recorded decision, from 1.")] = None,
    last: Annotated[bool, typer.Option("--last", help="The last decision that judged something: the default.")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Show a decision again from the ledger: values, limits, counts, evidence, verdict, who; and compute it again.

    Exit status 1 when what was recorded does not follow from its values.
    """
    from contextlib import closing

    from flows.cli.explain import render
    from tasks.release.explain import explain_decision
    from tasks.release.site import open_ledger

    if last and tick is not None:
        raise SlipwayError("--last and --tick name two decisions", cure="give one of them")
    settings = _project(project)
    with closing(open_ledger(settings.environment, home)) as ledger:
        found = explain_decision(ledger, settings.environment.name, settings.route, release, tick)
    typer.echo(found.model_dump_json(indent=2) if as_json else render(found))
    raise typer.Exit(1 if found.differences else 0)


@app.command()
def bundles(home: Home = STATE) -> None:
    """List the bundles, newest first."""
    from flows.cli.status import render_bundles

    typer.echo(render_bundles(home))


@app.command(name="export")
def export_ledger(project: Project = TUTOR, home: Home = STATE) -> None:
    """Write the whole ledger to standard output, one JSON object a line."""
    from contextlib import closing

    from tasks.release.site import open_ledger

    with closing(open_ledger(_project(project).environment, home)) as ledger:
        for line in ledger.export():
            typer.echo(line)


def _who(by: str | None) -> str:
    who = by or getpass.getuser()
    if len(who) > LONGEST_NAME:
        raise SlipwayError(f"a name has at most {LONGEST_NAME} characters, found {len(who)}", where="--by")
    return who


def _project(folder: Path):  # type: ignore[no-untyped-def] # the late import keeps `--help` quick
    from configs.project import load_project

    return load_project(folder)


def _require_prefect(home: Path) -> None:
    from tasks.prefect_server import require_prefect_server

    require_prefect_server(home, _narrate)


_repetition = Repetition()


def _narrate(done: int, total: int, text: str) -> None:
    if _repetition.is_due(text, time.monotonic()):
        typer.echo(f"  {f'{done}/{total} ' if total else ''}{text}", err=True)


def quiet_surroundings(environment: MutableMapping[str, str]) -> None:
    """Telemetry is off unless somebody turned it on.

    Prefect's own server is on this machine, where no proxy of the environment leads.
    """
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    for name, value in defaults.items():
        environment.setdefault(name, value)
    apart = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host.strip() for host in apart.split(",") if host.strip()]
    if "*" not in hosts:
        hosts += [host for host in LOOPBACK if host not in hosts]
    environment["no_proxy"] = environment["NO_PROXY"] = ",".join(hosts)


def main(commands: typer.Typer = app) -> None:
    """The console script: users' errors come without a traceback, with exit status 2."""
    quiet_surroundings(os.environ)
    with leaving_tidily():
        try:
            commands()
        except SlipwayError as error:
            typer.echo(f"slipway: {error.render()}", err=True)
            sys.exit(2)
        except OSError as error:  # a full disk wherever nobody thought of it
            from delivery.clients.fresh_folder import UNWRITABLE, unwritable

            if error.errno not in UNWRITABLE:
                raise
            typer.echo(f"slipway: {unwritable(error, Path.cwd(), 'what the command leaves behind').render()}", err=True)
            sys.exit(2)


if __name__ == "__main__":
    main()
