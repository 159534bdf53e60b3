"""Where each gateway's records are now: what came before is not read."""

from delivery.checks.evidence import Cursor
from delivery.clients.gateway import GatewayError
from delivery.release.state import ReleaseState
from tasks.release.site import Site


def cursors(site: Site) -> dict[str, Cursor]:
    """By gateway; one that does not answer is read from its beginning later."""
    found = {}
    for name, client in site.gateways.items():
        try:
            page = client.records(0, 1)
        except GatewayError:
            continue
        found[name] = Cursor(boot_id=page.boot_id, seq=page.last_seq)
    return found


def reading_from_now(site: Site, state: ReleaseState) -> ReleaseState:
    """A finished release that is taken up again: what was recorded in the meantime is not read."""
    evidence = state.evidence.model_copy(update={"cursors": cursors(site)})
    return state.model_copy(update={"evidence": evidence})
