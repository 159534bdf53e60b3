"""Taking a release back, in every phase the same way: one routing change, then draining, unloading, quarantine."""

from configs.rollout import RolloutPlan
from configs.routing import RoutingTable
from delivery.release.reconcile import all_have, loads, lost_on, routing_actions, wanted_table
from delivery.release.state import (
    Action,
    Alert,
    Commit,
    Decision,
    Observation,
    Quarantine,
    ReleaseState,
    Rollback,
    Served,
    UnloadAdapter,
)

UNLOAD_TRIES = 5


def begin(
    plan: RolloutPlan,
    state: ReleaseState,
    observation: Observation,
    now: float,
    *,
    reason: str,
    by: str = "slipway",
    quarantine: bool = True,
    first_bad_at: float | None = None,
    target: Served | None = None,
) -> Decision:
    """Turns a release around. The ledger's live bundle goes back in the same transaction as the decision."""
    note = Rollback(reason=reason, by=by, quarantine=quarantine, decided_at=now, first_bad_at=first_bad_at)
    stable = target or state.stable
    turned = state.model_copy(
        update={
            "phase": "rolling_back",
            "rollback": note,
            "stable": stable,
            "suspended": False,
            "awaiting_approval": False,
            "reason": reason,
            "clocks": state.clocks.model_copy(update={"drain_s": 0.0}),
        }
    )
    decision = go_on(plan, turned, observation, now)
    if not state.committed and target is None:
        return decision
    # after the routing change in order, though both hold as soon as the decision is recorded
    actions = (*decision.actions, Commit(live=stable, previous=None))
    return decision.model_copy(
        update={"actions": actions, "state": decision.state.model_copy(update={"committed": False})}
    )


def go_on(plan: RolloutPlan, state: ReleaseState, observation: Observation, now: float) -> Decision:
    """The next step of a rollback under way. It ends only when every gateway was seen to serve stable alone."""
    note, table = state.rollback, wanted_table(plan, state, observation)
    if note is None or table is None:
        raise ValueError(f"release {state.release_id} in phase {state.phase} is not being rolled back")
    reload_stable: list[Action] = list(loads(observation, state.stable, probed=False))
    routing = routing_actions(plan, state, observation)
    if not all_have(observation, table):
        # While the candidate is stable's only replacement, stable's model has to be there before its traffic.
        first_load = bool(lost_on(observation, state.stable)) and _candidate_is_stable(state, observation)
        actions = [*reload_stable, *routing] if first_load else [*routing, *reload_stable]
        unreachable = sorted(name for name, seen in observation.gateways.items() if seen is None)
        alerts = state.alerts
        if unreachable and "gateway" not in alerts:
            actions.append(Alert(text=f"rolling back, but these gateways do not answer: {', '.join(unreachable)}"))
            alerts = (*alerts, "gateway")
        return _decision(state.model_copy(update={"alerts": alerts}), actions, note)
    if note.confirmed_at is None:
        note = note.model_copy(update={"confirmed_at": now})
        state = state.model_copy(update={"rollback": note})
    waits_for_stable = bool(reload_stable) and state.clocks.drain_s < plan.drain_s
    if waits_for_stable or not _drained(plan, state, observation):
        return _decision(state, reload_stable, note)
    unloads = _unloads(state, observation, table)
    if unloads and state.unload_tries < UNLOAD_TRIES:
        state = state.model_copy(update={"unload_tries": state.unload_tries + 1})
        return _decision(state, [*reload_stable, *unloads], note)
    done: list[Action] = list(reload_stable)
    if unloads:
        done.append(Alert(text=f"vLLM keeps {state.candidate.variant.model} loaded; it has no traffic"))
    if note.quarantine:
        done.append(Quarantine(bundle=state.candidate.bundle, reason=note.reason))
    return _decision(state.model_copy(update={"phase": "rolled_back"}), done, note)


def _candidate_is_stable(state: ReleaseState, observation: Observation) -> bool:
    """Whether some gateway gives the candidate all traffic as the route's stable variant (after a commit)."""
    for seen in observation.gateways.values():
        route = seen.table.routes.get(state.route) if seen is not None and seen.table is not None else None
        if route is not None and route.stable == state.candidate.name:
            return True
    return False


def _drained(plan: RolloutPlan, state: ReleaseState, observation: Observation) -> bool:
    if state.clocks.drain_s >= plan.drain_s:
        return True
    pages = [seen.pages[-1] for seen in observation.gateways.values() if seen is not None and seen.pages]
    busy = any(item.variant == state.candidate.name for page in pages for item in page.in_flight)
    return len(pages) == len(observation.gateways) and not busy


def _unloads(state: ReleaseState, observation: Observation, table: RoutingTable) -> list[Action]:
    """Never a name that some variant in the table still uses: two bundles may share an adapter."""
    name = state.candidate.variant.model
    used = {variant.model for route in table.routes.values() for variant in route.variants.values()}
    if state.candidate.adapter_path is None or name in used:
        return []
    return [
        UnloadAdapter(url=url, name=name)
        for url in dict.fromkeys((*state.candidate.variant.upstreams, *observation.members))
        if (replica := observation.replicas.get(url)) is not None and name in replica.listed
    ]


def _decision(state: ReleaseState, actions: list[Action], note: Rollback) -> Decision:
    return Decision(state=state, actions=tuple(actions), verdict=state.verdict, reason=note.reason)
