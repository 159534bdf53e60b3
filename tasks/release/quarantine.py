"""Lifting a quarantine: a named person lets a bundle be released again that a rollback had ruled out."""

from pathlib import Path

from configs.canonical import short
from configs.errors import SlipwayError
from delivery.clients.bundles.images import read_bundle
from delivery.clients.ledger.ledger import Ledger


def lift_quarantine(ledger: Ledger, home: Path, reference: str, *, by: str, reason: str, now: float) -> str:
    """Lets a bundle be released again, on record with who and why; the sentence that says so.

    `reference`: the bundle's digest, or a unique beginning of it. Raises SlipwayError when there is no such bundle, or
    it is not quarantined. The eval gate and the stages judge it as ever.
    """
    digest = read_bundle(home, reference).digest
    was = ledger.quarantined(digest)
    if not was:
        raise SlipwayError(
            f"bundle {short(digest)} is not quarantined", where=ledger.url, cure="release it: nothing stands against it"
        )
    ledger.lift_quarantine(digest, by, reason, now)
    return f"bundle {short(digest)} may be released again; it was quarantined: {was}"
