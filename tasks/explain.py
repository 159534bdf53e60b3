"""Finds a recorded decision in the ledger and computes it again."""

from contextlib import closing
from pathlib import Path

from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.explain import Explanation, explain
from tasks.site import open_ledger


def explain_decision(
    environment: Environment, home: Path, route: str, release_id: str | None = None, tick: int | None = None
) -> Explanation:
    """A release's decision by its number from 1 (None: the last one in which something was judged, if any was).

    `release_id` None: the route's newest release. Raises SlipwayError when there is no such release or decision.
    """
    with closing(open_ledger(environment, home)) as ledger:
        known = ledger.releases(environment.name, route, limit=1000)
        if release_id is None and known:
            release_id = str(known[0]["id"])
        if release_id is None or release_id not in [row["id"] for row in known]:
            few = ", ".join(str(row["id"]) for row in known[:5]) or "none"
            what = f"no release {release_id}" if release_id else "no release"
            raise SlipwayError(
                f"route {route} has {what}", where=f"environment {environment.name}", cure=f"known: {few}"
            )
        rows = ledger.decisions(release_id, heartbeats=True)
    if tick is None:
        judged = [number for number, row in enumerate(rows, start=1) if row["results"]]
        tick = judged[-1] if judged else len(rows)
    if not 1 <= tick <= len(rows):
        raise SlipwayError(f"release {release_id} has no tick {tick}", cure=f"name one from 1 to {len(rows)}")
    return explain(rows[tick - 1], tick, len(rows))
