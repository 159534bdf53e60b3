"""A route brought up: the gateways serve what the ledger says is live, from replicas that were seen to serve it."""

from collections.abc import Callable, Mapping
from functools import partial

from configs.canonical import short
from configs.errors import SlipwayError
from configs.routing import RoutingTable
from delivery.build.bundle import Bundle
from delivery.clients.at_once import at_once
from delivery.clients.bundles.images import read_bundle, unpack_adapter
from delivery.clients.vllm import VllmClient, VllmError
from delivery.progress import Progress, silent
from delivery.release.routes import alone, table_with
from delivery.release.state import Observation, Served
from tasks.mirror import mirror_of
from tasks.release.gateways import put, tables
from tasks.release.left_behind import asked_back
from tasks.release.published import require_signed
from tasks.release.site import Site, served_as
from tasks.release.way_back import remember_if_possible
from tasks.serving.target import AdapterOrigin, Target


def bootstrap(
    site: Site,
    route: str,
    base: Bundle,
    lease_s: float = 15.0,
    on_progress: Progress = silent,
    patience_s: float = 0.0,
) -> RoutingTable:
    """Has the gateways serve a route: the base at first, later whatever the ledger says is live.

    Loads and probes the live adapter before. Does nothing to a table that already gives the live bundle its traffic.
    Of several gateways and replicas those that do not answer are told of, and left to whoever looks after them.
    Raises SlipwayError when no gateway or no vLLM answers, LeaseHeldError when somebody else controls the
    environment and still does after `patience_s`.
    """
    site.take_lease(patience_s, on_progress)
    try:
        now = site.clock()
        site.ledger.set_base(site.name, route, served_as(base, site), base, site.owner, now)
        pointers = site.ledger.route(site.name, route)
        if pointers is None:
            raise SlipwayError(f"route {route} is not in the ledger although it was just written")
        live = site.here(_to_be_served(site, route, pointers.live))
        _require_signed_when_released(site, route, live)
        away = make_servable(site, live)
        seen = tables(site.gateways)
        if not any(seen.values()):
            at_least_one({name: client.table for name, client in site.gateways.items()})
        found = [one.table.routes.get(route) if one is not None and one.table else None for one in seen.values()]
        wanted = alone(live, short(live.bundle), f"start/{short(live.bundle)}")
        under_way = site.ledger.unfinished(site.name, route) is not None
        for one in found:
            settled = one is not None and one.candidate is None and one.holdback is None
            if one is not None and one.variants[one.stable] == live.variant and (settled or under_way):
                wanted = one
        newest = site.ledger.newest_table(site.name)
        table = table_with(route, wanted, Observation(gateways=seen, replicas={}, ledger_table=newest), lease_s)
        site.ledger.add_table(site.name, table, f"start of route {route}", site.owner, now)
        away |= {name: error for name, error in put(site.gateways, seen, table).items() if error is not None}
        if len([name for name in away if name in site.gateways]) == len(site.gateways):
            raise next(error for name, error in away.items() if name in site.gateways)
        for name, error in away.items():
            on_progress(0, 1, f"{name} is not ready, and is looked after once it is: {error.what}")
        remember_if_possible(site, route)
        on_progress(1, 1, f"route {route} serves {live.name} ({live.variant.model}), revision {table.revision}")
        return table
    finally:
        site.drop_lease()


def _to_be_served(site: Site, route: str, live: Served) -> Served:
    """What is live, unless somebody has asked for it to be taken back: a start must not bring it back."""
    asked = asked_back(site, route)
    command = site.ledger.command(asked.release_id) if asked is not None and asked.phase == "live" else None
    return live if asked is None or command is None else command.target or asked.stable


def _require_signed_when_released(site: Site, route: str, live: Served) -> None:
    """Where signatures are required: its bytes are those that were signed.

    Certificates count as of the release: one that expires later must not keep what is live from a restart.
    """
    if live.adapter_path is None or not site.environment.signatures.required:
        return
    at = [float(r["started_at"]) for r in site.ledger.releases(site.name, route) if r["bundle"] == live.bundle]
    as_of = at[0] if at else site.clock()
    mirror_of(site.environment, site.home).fetch_bundle(live.bundle)
    require_signed(site.environment, site.home, live.bundle, as_of)
    site.target.place(unpack_adapter(read_bundle(site.home, live.bundle), site.home), AdapterOrigin(live.bundle, as_of))


def make_servable(site: Site, served: Served, *, probe: bool = True, late_s: float = 10.0) -> dict[str, SlipwayError]:
    """Has every replica list a bundle's model (`probe`: and answer a probe of it); why some do not, by URL.

    All are asked at the same time; once one is ready the others get `late_s` more. Users are served by those that are
    ready: a gateway asks no replica that does not list the model. Raises VllmError when there is none.
    """
    return at_least_one({url: partial(_serve, site, url, served, probe) for url in served.variant.upstreams}, late_s)


def at_least_one(calls: Mapping[str, Callable[[], object]], late_s: float = 10.0) -> dict[str, SlipwayError]:
    """What went wrong where, unless that is everywhere: then it is raised."""
    done = at_once(calls, late_s)
    wrong = {name: error for name, error in done.items() if isinstance(error, SlipwayError)}
    if len(wrong) == len(done):
        raise next(iter(wrong.values()))
    return wrong


def _serve(site: Site, url: str, served: Served, probe: bool) -> None:
    client, name = site.vllm(url), served.variant.model
    if served.adapter_path is not None:
        if probe:
            site.target.prove(url, served.adapter_path)
        load_proved(site.target, client, url, name, served.adapter_path)
    elif name not in client.models():
        raise VllmError(f"vLLM does not serve {name}", where=client.base_url)
    if probe:
        client.probe(name)


def load_proved(target: Target, client: VllmClient, url: str, name: str, path: str) -> None:
    """Loads what the replica proves to have; one that lists it has proved it before, and a rollback cannot wait."""
    if name not in client.models():
        target.prove(url, path)
    client.load_adapter(name, target.path_on(url, path))
