"""Wanted against found: which actions bring gateways and replicas to what a release's state wants.

Nothing here remembers what was sent. An action is repeated until it is seen to have worked, which is why a killed
controller, a restarted gateway or a vLLM that lost its adapters need no code of their own.
"""

from collections.abc import Iterable

from configs.rollout import RolloutPlan
from configs.routing import RoutingTable
from delivery.release.routes import table_with, wanted_route
from delivery.release.state import Action, LoadAdapter, Observation, ReleaseState, RenewLease, Served, SetTable


def routing_actions(plan: RolloutPlan, state: ReleaseState, observation: Observation) -> list[Action]:
    """The table for every gateway that lacks it, a renewed lease for those that have it and are being watched.

    Nobody gets a share while the monitor is blind.
    """
    table = wanted_table(plan, state, observation)
    if table is None:
        return []
    route = table.routes[state.route]
    shares = route.candidate is not None or route.holdback is not None
    blind = state.clocks.silent_s > plan.monitor_timeout_s
    actions: list[Action] = []
    if gateways_behind(observation, table) and not (shares and blind):  # a put is a lease too
        actions.append(SetTable(table=table))
    if not shares:
        return actions
    for name, seen in sorted(observation.gateways.items()):
        if seen is not None and seen.table == table and (seen.pages or not blind):
            actions.append(RenewLease(gateway=name, revision=table.revision))
    return actions


def wanted_table(plan: RolloutPlan, state: ReleaseState, observation: Observation) -> RoutingTable | None:
    """The whole table with this release's route in it; None while the release leaves the route alone."""
    route = wanted_route(plan, state)
    return None if route is None else table_with(state.route, route, observation, plan.lease_s)


def gateways_behind(observation: Observation, table: RoutingTable) -> list[str]:
    """Gateways that answer and serve something else."""
    return [name for name, seen in observation.gateways.items() if seen is not None and seen.table != table]


def all_have(observation: Observation, table: RoutingTable) -> bool:
    """Whether every gateway answers and serves exactly this."""
    seen = observation.gateways.values()
    return bool(seen) and all(one is not None and one.table == table for one in seen)


def is_listed(observation: Observation, served: Served) -> bool:
    """Whether every replica of a bundle answers and lists its model."""
    replicas = [observation.replicas.get(url) for url in served.variant.upstreams]
    return all(replica is not None and served.variant.model in replica.listed for replica in replicas)


def is_verified(observation: Observation, served: Served) -> bool:
    """Whether every replica lists the bundle's model and answered a probe of it."""
    replicas = [observation.replicas.get(url) for url in served.variant.upstreams]
    return all(
        replica is not None and served.variant.model in replica.listed & replica.verified for replica in replicas
    )


def lost_on(observation: Observation, served: Served) -> list[str]:
    """Replicas that answer without listing the bundle's model: they restarted."""
    return [
        url
        for url in served.variant.upstreams
        if (replica := observation.replicas.get(url)) is not None and served.variant.model not in replica.listed
    ]


def loads(observation: Observation, served: Served, *, probed: bool) -> Iterable[LoadAdapter]:
    """Loads for the replicas that answer and do not list the model (`probed`: or have not answered a probe yet)."""
    for url in served.variant.upstreams:
        replica = observation.replicas.get(url)
        if replica is None:
            continue
        ready = replica.listed & replica.verified if probed else replica.listed
        if served.variant.model not in ready:
            yield LoadAdapter(url=url, name=served.variant.model, path=served.adapter_path)
