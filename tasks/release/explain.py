"""Finds a recorded decision in the ledger and computes it again."""

from configs.errors import SlipwayError
from delivery.checks.explain import Explanation, explain
from delivery.clients.ledger.ledger import Ledger

RELEASES_KNOWN = 1000


def explain_decision(
    ledger: Ledger, environment: str, route: str, release_id: str | None = None, tick: int | None = None
) -> Explanation:
    """A release's decision by its number from 1 (None: the last one in which something was judged, if any was).

    `release_id` None: the route's newest release. Raises SlipwayError when there is no such release or decision.
    """
    known = [str(row["id"]) for row in ledger.releases(environment, route, RELEASES_KNOWN)]
    if release_id is None and known:
        release_id = known[0]
    if release_id is None or release_id not in known:
        few = ", ".join(known[:5]) or "none; start one: slipway release"
        what = f"route {route} has no release{'' if release_id is None else ' ' + release_id}"
        raise SlipwayError(what, where=f"environment {environment}", cure=f"known: {few}")
    rows = ledger.decisions(release_id, heartbeats=True)
    if tick is None:
        judged = [number for number, row in enumerate(rows, start=1) if row["results"]]
        tick = judged[-1] if judged else len(rows)
    if not 1 <= tick <= len(rows):
        raise SlipwayError(f"release {release_id} has no tick {tick}", cure=f"name one from 1 to {len(rows)}")
    return explain(rows[tick - 1], tick, len(rows))
