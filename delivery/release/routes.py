"""From a release's state to the routing table that it wants, so that every tick can compare wanted with found."""

from collections.abc import Iterable
from typing import Any

from configs.rollout import RolloutPlan, Stage
from configs.routing import FULL_BP, Candidate, Holdback, Route, RoutingTable
from delivery.release.state import Observation, ReleaseState, Served


def current_stage(plan: RolloutPlan, state: ReleaseState) -> Stage:
    """The stage that is being judged; watching a live release is a watch stage without minimum."""
    if state.phase == "watching":
        return Stage(kind="watch", min_requests=1, max_duration_s=max(state.watch_s, 1.0))
    return plan.stages[state.stage_index]


def epoch_of(plan: RolloutPlan, state: ReleaseState) -> str:
    """The label of the records that belong to the state's evidence."""
    if state.phase == "watching":
        return f"{state.release_id}/watching.{state.attempt}"
    again = f".{state.attempt}" if state.attempt else ""
    return f"{state.release_id}/{plan.stage_name(state.stage_index)}{again}"


def alone(served: Served, salt: str, epoch: str) -> Route:
    """One variant with all traffic."""
    variants = {served.name: served.variant}
    return Route(salt=salt, epoch=epoch, variants=variants, stable=served.name, contract=served.contract)


def wanted_route(plan: RolloutPlan, state: ReleaseState) -> Route | None:
    """The route that the state wants; None while it is no business of the release."""
    release, stable = state.release_id, state.stable
    if state.phase in ("preparing", "refused"):
        return None
    if state.phase in ("rolling_back", "rolled_back"):
        return alone(stable, release, f"{release}/rolled-back")
    if state.suspended:
        return alone(stable, release, f"{release}/suspended")
    if state.phase == "live":
        return alone(state.candidate, release, f"{release}/live")
    stage, epoch = current_stage(plan, state), epoch_of(plan, state)
    rules: dict[str, Any] = {"contract": state.candidate.contract, "trip": plan.trip}  # for both, to be comparable
    both = {served.name: served.variant for served in (stable, state.candidate)}
    if stage.rules.commits:
        if state.holdback_bp == 0:
            return alone(state.candidate, release, epoch)
        held = Holdback(variant=stable.name, share_bp=state.holdback_bp)
        return Route(salt=release, epoch=epoch, variants=both, stable=state.candidate.name, holdback=held, **rules)
    judge = plan.judge if stage.rules.has_pairs else None
    share = Candidate(
        variant=state.candidate.name,
        share_bp=stage.share_bp,
        mirror_bp=stage.mirror_bp,
        capture_bp=judge.share_bp if judge is not None else 0,
    )
    return Route(salt=release, epoch=epoch, variants=both, stable=stable.name, candidate=share, **rules)


def holdback_of(plan: RolloutPlan) -> int:
    """Who stays on the previous bundle after the commit, in basis points: whoever the last share left on stable."""
    return FULL_BP - plan.last_share_bp


def newest_table(observation: Observation) -> RoutingTable | None:
    """The table with the highest revision among gateways and ledger; None when they disagree about it or have none."""
    tables = list(_tables(observation))
    top = max((table.revision for table in tables), default=0)
    newest = [table for table in tables if table.revision == top]
    return newest[0] if newest and all(table == newest[0] for table in newest) else None


def table_with(route_name: str, route: Route, observation: Observation, lease_s: float) -> RoutingTable:
    """The newest table when it has this route already, otherwise the next revision with it.

    What operators set stays: other routes, this route's policy, and which of the replicas drain.
    """
    tables = list(_tables(observation))
    top = max(tables, key=lambda table: table.revision, default=RoutingTable(revision=0))
    if route_name in top.routes:
        route = route.model_copy(update={"policy": top.routes[route_name].policy})
    newest = newest_table(observation)
    if newest is not None and newest.routes.get(route_name) == route and newest.lease_s == lease_s:
        return newest
    routes = {**top.routes, route_name: route}
    return RoutingTable(
        revision=top.revision + 1, lease_s=lease_s, routes=routes, draining=_still_draining(top, routes.values())
    )


def _still_draining(table: RoutingTable, routes: Iterable[Route]) -> tuple[str, ...]:
    """Those that the routes name; none that would leave a variant without any: a rollback must be served."""
    named = [frozenset(variant.upstreams) for route in routes for variant in route.variants.values()]
    draining = frozenset(url for url in table.draining if any(url in urls for urls in named))
    if any(urls <= draining for urls in named):
        return ()
    return tuple(url for url in table.draining if url in draining)


def _tables(observation: Observation) -> Iterable[RoutingTable]:
    for seen in observation.gateways.values():
        if seen is not None and seen.table is not None:
            yield seen.table
    if observation.ledger_table is not None:
        yield observation.ledger_table
