"""What was live when, how a release went, what two bundles differ in, and what stood behind one request's answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from configs.errors import SlipwayError
from configs.routing import RoutingTable
from configs.strict import Strict
from delivery.build.bundle import Bundle
from delivery.checks.explain import Explanation, explain
from delivery.clients.bundles.images import read_bundle
from delivery.clients.gateway import GatewayClient, GatewayError
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.traffic_log import read_request
from delivery.release.state import ReleaseState
from delivery.traffic.records import Record
from tasks.release.site import Site

PAGE = 5000
MOST_PAGES = 60  # of a gateway's memory


class Period(Strict):
    """A time in which one variant was a route's stable one. Times are UNIX seconds; `until` None: it is so still."""

    variant: str
    since: float
    until: float | None
    release_id: str | None  # whose decision made it so; None: a start, or a person's rollback
    why: str
    revision: int


@dataclass(frozen=True)
class Story:
    """One release with everybody who had a part in it, and its decisions without heartbeats."""

    state: ReleaseState
    started_at: float
    updated_at: float
    events: list[dict[str, Any]]
    approvals: list[dict[str, Any]]
    commands: list[dict[str, Any]]
    decisions: list[dict[str, Any]]


@dataclass(frozen=True)
class AnswerOrigin:
    """One attempt of a request, and all that stood behind it: its variant in the table of then, bundle and release."""

    record: Record
    source: str  # where it was found
    bundle: Bundle | None
    release_id: str | None
    revision: int | None


class Difference(Strict):
    """A field in which two bundles differ, as text; empty where one of them lacks it."""

    field: str
    first: str
    second: str


def live_periods(ledger: Ledger, environment: str, route: str) -> list[Period]:
    """What was live when, newest first, from the routing tables that were decided."""
    periods: list[Period] = []
    for row in reversed(ledger.audit.stables(environment, route)):
        if periods and periods[-1].variant == row["stable"]:
            continue
        if periods:
            periods[-1] = periods[-1].model_copy(update={"until": row["at"]})
        periods.append(
            Period(
                variant=row["stable"],
                since=row["at"],
                until=None,
                release_id=row["release_id"],
                why=row["why"],
                revision=row["revision"],
            )
        )
    return periods[::-1]


def story_of(ledger: Ledger, release_id: str) -> Story:
    """A release's story. Raises SlipwayError when there is none."""
    row = ledger.audit.release(release_id)
    if row is None:
        raise SlipwayError(
            f"the ledger knows no release {release_id}", cure="see those that it knows: the page History"
        )
    people = ledger.audit.of_release(release_id)
    return Story(
        state=ReleaseState.model_validate(row["state"]),
        started_at=row["started_at"],
        updated_at=row["updated_at"],
        decisions=ledger.decisions(release_id),
        **people,
    )


def decision_again(ledger: Ledger, release_id: str, number: int) -> Explanation:
    """One decision by its number in the ledger, computed again. Raises SlipwayError when the release has none such."""
    rows = ledger.decisions(release_id, heartbeats=True)
    for tick, row in enumerate(rows, start=1):
        if row["id"] == number:
            return explain(row, tick, len(rows))
    raise SlipwayError(f"release {release_id} has no decision {number}", cure="see its page for those that it has")


def bundle_of(ledger: Ledger, home: Path, reference: str) -> Bundle:
    """A bundle by its digest or a unique beginning of it: of the state folder, else of the ledger."""
    try:
        return read_bundle(home, reference)
    except SlipwayError:
        known = ledger.bundle(reference if reference.startswith("sha256:") else f"sha256:{reference}")
        if known is None:
            raise
        return known


def differences(first: Bundle, second: Bundle) -> list[Difference]:
    """Every field of the manifests in which they differ, in the manifests' order."""
    left, right = (_flat("", one.model_dump(mode="json")) for one in (first, second))
    names = dict.fromkeys([*left, *right])
    return [
        Difference(field=name, first=left.get(name, ""), second=right.get(name, ""))
        for name in names
        if left.get(name) != right.get(name)
    ]


def _flat(name: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= _flat(f"{name}.{key}" if name else str(key), inner)
        return found
    return {} if value is None else {name: str(value)}


def behind_request(site: Site, request_id: str) -> list[AnswerOrigin]:
    """Every attempt at a request that a gateway remembers, or its traffic log holds, oldest first."""
    found: dict[tuple[str, str, float], tuple[Record, str]] = {}
    for record, source in (*_remembered(site, request_id), *_logged(site, request_id)):
        found.setdefault((record.variant, record.role, record.started_at), (record, source))
    return [
        _behind(site, record, source) for record, source in sorted(found.values(), key=lambda one: one[0].started_at)
    ]


def _remembered(site: Site, request_id: str) -> Iterable[tuple[Record, str]]:
    for name, client in site.gateways.items():
        try:
            mine = [record for record in _records(client) if record.request_id == request_id]
        except GatewayError:
            continue  # the page says on Now that it does not answer; its log may know
        yield from ((record, f"gateway {name}") for record in mine)


def _records(client: GatewayClient) -> Iterable[Record]:
    after = 0
    for _ in range(MOST_PAGES):
        page = client.records(after, PAGE)
        yield from page.records
        if not page.records or page.records[-1].seq >= page.last_seq:
            return
        after = page.records[-1].seq


def _logged(site: Site, request_id: str) -> Iterable[tuple[Record, str]]:
    for folder in log_folders(site):
        yield from ((record, f"traffic log {folder}") for record in read_request(folder, request_id))


def log_folders(site: Site) -> list[Path]:
    """Where traffic logs of this environment lie on this machine."""
    log = site.environment.gateway.traffic_log
    named = [log.folder] if log is not None and log.folder is not None else []
    below = site.home / "environments" / site.name
    places = [*named, below / "traffic", *sorted(below.glob("*/traffic"))]
    return [place for place in places if any(place.glob("*.parquet"))]


def _behind(site: Site, record: Record, source: str) -> AnswerOrigin:
    row = site.ledger.audit.table_at(site.name, record.started_at)
    begun = site.ledger.audit.release(record.epoch.partition("/")[0])
    release_id = begun["id"] if begun is not None else None
    if row is None:
        return AnswerOrigin(record, source, None, release_id, None)
    try:
        table = RoutingTable.model_validate(row["table"])
    except pydantic.ValidationError:  # of another version
        return AnswerOrigin(record, source, None, release_id, row["revision"])
    route = table.routes.get(record.route)
    variant = route.variants.get(record.variant) if route is not None else None
    bundle = site.ledger.bundle(variant.bundle) if variant is not None and variant.bundle else None
    return AnswerOrigin(record, source, bundle, release_id, row["revision"])
