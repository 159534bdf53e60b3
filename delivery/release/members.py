"""Replicas that come and go during a release: who gets users, and who has to load and prove adapters before.

One that the target does not name any more loses its share at once. One that is new gets its share of a variant only
when it lists the model and has answered a probe of it; until then it is nobody's, and no stage waits for it.
"""

from collections.abc import Iterable, Sequence

from delivery.release.state import Action, Decision, LoadAdapter, Observation, ReleaseState, Served


def here(served: Served, members: Sequence[str]) -> Served:
    """At the replicas that are there now, where they come and go; without any it stays where it was."""
    return _at(served, tuple(members)) if served.follows and members else served


def followed(state: ReleaseState, observation: Observation) -> ReleaseState:
    """The state with each bundle at the replicas that may have its users now."""
    update = {name: _joined(served, observation) for name, served in _both(state)}
    return state.model_copy(update=update) if update != dict(_both(state)) else state


def welcomed(decision: Decision, observation: Observation) -> Decision:
    """The decision, and what new replicas have to load for it."""
    actions: list[Action] = []
    for served in _needed(decision.state):
        if served.follows:
            new = [url for url in observation.members if url not in served.variant.upstreams]
            actions += _loads(served, new, observation)
    known = {(a.url, a.name) for a in decision.actions if isinstance(a, LoadAdapter)}
    actions = [a for a in actions if isinstance(a, LoadAdapter) and (a.url, a.name) not in known]
    return decision.model_copy(update={"actions": (*decision.actions, *actions)}) if actions else decision


def _both(state: ReleaseState) -> tuple[tuple[str, Served], ...]:
    return (("stable", state.stable), ("candidate", state.candidate))


def _joined(served: Served, observation: Observation) -> Served:
    if not (served.follows and observation.members):
        return served
    stay = [url for url in served.variant.upstreams if url in observation.members]
    new = [url for url in observation.members if url not in stay and _is_ready(served, url, observation)]
    # a variant needs some replica: a bundle that is nowhere is missing where it was, which holds the release
    return _at(served, (*stay, *new)) if stay or new else served


def _needed(state: ReleaseState) -> tuple[Served, ...]:
    match state.phase:
        case "preparing" | "stage" | "watching":
            return (state.stable, state.candidate)
        case "rolling_back":
            return (state.stable,)
        case "live":
            return (state.candidate,)
        case _:
            return ()


def _loads(served: Served, urls: Iterable[str], observation: Observation) -> Iterable[Action]:
    for url in urls:
        if observation.replicas.get(url) is not None and not _is_ready(served, url, observation):
            yield LoadAdapter(url=url, name=served.variant.model, path=served.adapter_path)


def _is_ready(served: Served, url: str, observation: Observation) -> bool:
    replica = observation.replicas.get(url)
    return replica is not None and served.variant.model in replica.listed & replica.verified


def _at(served: Served, urls: tuple[str, ...]) -> Served:
    if served.variant.upstreams == urls:
        return served
    return served.model_copy(update={"variant": served.variant.model_copy(update={"upstreams": urls})})
