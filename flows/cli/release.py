"""Commands that put a bundle in front of users and judge it there: release, refresh, watch."""

import time
from typing import Annotated

import typer

from configs.errors import SlipwayError, require_all
from configs.watch import LARGEST_HOLDBACK_BP, LONGEST_S, SHORTEST_S
from flows.cli.ci import JUnit, Summary, require_places, write_release
from flows.cli.options import (
    STATE,
    TUTOR,
    AcceptBlind,
    By,
    Home,
    ProjectOption,
    decider,
    project_of,
    require_prefect,
    say,
)

commands = typer.Typer()


@commands.command()
def release(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, or a unique beginning of it.")],
    project: ProjectOption = TUTOR,
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
    junit: JUnit = None,
    summary: Summary = None,
) -> None:
    """Take a bundle through shadow, canary, full and watch. Exit status 1 when it is refused or rolled back."""
    from delivery.clients.bundles.images import read_bundle
    from tasks.mirror import mirror_of
    from tasks.preflight import before_release
    from tasks.release.broken_stable import over_broken_stable as without_stable
    from tasks.release.published import require_signed
    from tasks.release.refusals import why_other_form

    require_places(junit, summary)
    mirror_of(project_of(project).environment, home).fetch_bundle(bundle)
    found = read_bundle(home, bundle)  # a wrong digest is said at once, another form, and a missing signature
    if why_other_form(found, candidate_upstream):
        raise SlipwayError(why_other_form(found, candidate_upstream))
    require_signed(project_of(project).environment, home, found.digest, time.time())
    if over_broken_stable != bool(reason.strip()):
        raise SlipwayError("--over-broken-stable and --reason belong together", cure="give both, or none of them")
    settings = without_stable(project_of(project)) if over_broken_stable else project_of(project)
    checks = before_release(settings, home, candidate_upstream, accept_blind_plan=accept_blind_plan)
    require_all("the release cannot start", checks)
    require_prefect(home)
    from flows.release import ended, render
    from flows.release import release as flow

    who = decider(by)
    outcome = ended.of(
        lambda: flow(
            bundle=bundle,
            project=str(project),
            home=home,
            candidate_upstreams=candidate_upstream,
            accept_blind_plan=accept_blind_plan,
            broken_stable=reason or None,
            at_any_hour=at_any_hour,
            by=who,
            return_state=True,
        ),
        say,
    )
    typer.echo(render(outcome))
    write_release(junit, summary, project, home, outcome)
    raise typer.Exit(0 if outcome.outcome == "live" else 1)


@commands.command()
def refresh(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    accept_blind_plan: AcceptBlind = False,
    by: By = None,
    junit: JUnit = None,
    summary: Summary = None,
) -> None:
    """Build, then release what the gate lets through: what the weekly schedule runs."""
    from tasks.preflight import before_refresh, load_for

    require_places(junit, summary)
    what = "nothing can be built and released"
    load_for(project, home, what, lambda found: before_refresh(found, home, accept_blind_plan))
    require_prefect(home)
    from flows.refresh import refresh as flow
    from flows.release import ended, render

    given = {"project": str(project), "home": home, "by": decider(by), "accept_blind_plan": accept_blind_plan}
    outcome = ended.of(lambda: flow(**given, return_state=True), say)
    typer.echo(render(outcome))
    write_release(junit, summary, project, home, outcome)
    raise typer.Exit(0 if outcome.outcome == "live" else 1)


@commands.command()
def watch(
    project: ProjectOption = TUTOR,
    home: Home = STATE,
    duration_s: Annotated[
        float, typer.Option(min=SHORTEST_S, max=LONGEST_S, help="For how long, in seconds.")
    ] = 3600.0,
    holdback_bp: Annotated[
        int, typer.Option(min=0, max=LARGEST_HOLDBACK_BP, help="Users kept on the previous bundle, in basis points.")
    ] = 0,
) -> None:
    """Go on judging what is live; exit status 1 when it is rolled back."""
    from tasks.preflight import before_watch

    require_all("nothing can be watched", before_watch(project_of(project), home))
    require_prefect(home)
    from flows.release import ended, render
    from flows.watch import watch as flow

    given = {"project": str(project), "home": home, "duration_s": duration_s, "holdback_bp": holdback_bp}
    outcome = ended.of(lambda: flow(**given, return_state=True), say)
    typer.echo("nothing was released yet" if outcome is None else render(outcome))
    raise typer.Exit(0 if outcome is None or outcome.outcome == "live" else 1)
