"""Whether a folder holds the bundle that was asked for, byte for byte, and whether somebody signed it who may.

It asks nobody and writes nothing: whoever pulls calls it, whoever loads into vLLM calls it again, each where it stands.
"""

from dataclasses import dataclass
from pathlib import Path

from configs.canonical import digest_bytes, short
from configs.errors import Problem, SlipwayError
from configs.registry import Signatures
from delivery.build.bundle import Bundle
from delivery.clients.bundles import layout
from delivery.clients.registry.signatures import MOST_BYTES, check_signer, why_not_signed_by

MOST_SIGNATURES = 50


@dataclass(frozen=True)
class Verified:
    """A bundle whose every digest fits."""

    bundle: Bundle
    digest: str  # of the index: what registries call it, and what is signed
    folder: Path
    signed_by: tuple[str, ...]  # names of signers whose signatures count for its route


def verify(folder: Path, digest: str | None, policy: Signatures, now: float) -> Verified:
    """The bundle in an OCI image layout. `digest` is that of its index, where it is known; `now` is UNIX seconds.

    Raises SlipwayError for a byte, a file, a link that is not as it should be, for another bundle than was asked for,
    and where signatures are required for one that nobody signed who may.
    """
    bundle = layout.verify(folder)
    index = (folder / "index.json").read_bytes()
    found = digest_bytes(index)
    if digest is not None and found != digest:
        raise SlipwayError(
            f"this is another bundle than was asked for: {found}", where=str(folder), cure=f"pull {digest} again"
        )
    signed_by, refusals = _signers(folder, index, bundle.route, policy, now)
    if policy.required and not signed_by:
        raise SlipwayError(
            f"bundle {short(bundle.digest)} of route {bundle.route} has no signature that counts",
            where=str(folder),
            problems=refusals or [Problem("", "it has no signature at all")],
            cure="have one of them sign it: " + ", ".join(sorted(policy.signers)) + " (slipway sign, or slipway push)",
        )
    return Verified(bundle=bundle, digest=found, folder=folder, signed_by=signed_by)


def signatures_in(folder: Path) -> dict[str, bytes]:
    """The signatures that lie beside a layout, by file name. Raises SlipwayError for what cannot be one."""
    found: dict[str, bytes] = {}
    for path in sorted((folder / layout.SIGNATURES).glob("*")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES or len(found) == MOST_SIGNATURES:
            what = (
                f"no signature: a link, a folder, more than {MOST_BYTES} bytes, or more than {MOST_SIGNATURES} of them"
            )
            raise SlipwayError(what, where=str(path), cure="remove it")
        found[path.name] = path.read_bytes()
    return found


def add_signature(folder: Path, signature: bytes) -> None:
    """Lays a signature beside a layout; one that is there already is left alone."""
    place = folder / layout.SIGNATURES / f"{short(digest_bytes(signature), 64)}.json"
    place.parent.mkdir(exist_ok=True)
    fresh = place.with_suffix(".new")
    fresh.write_bytes(signature)
    fresh.replace(place)


def _signers(
    folder: Path, index: bytes, route: str, policy: Signatures, now: float
) -> tuple[tuple[str, ...], list[Problem]]:
    """Who signed it and may, and why each of the other signatures does not count."""
    good: list[str] = []
    refusals: list[Problem] = []
    signatures = signatures_in(folder)
    for name, signer in policy.signers.items() if signatures else ():
        check_signer(name, signer)
        for file, signature in signatures.items():
            why = why_not_signed_by(signer, signature, index, now)
            if not why and signer.routes and route not in signer.routes:
                why = f"it is a good one, but {name} may sign {', '.join(signer.routes)} only"
            if not why:
                good.append(name)
                break
            refusals.append(Problem(f"{layout.SIGNATURES}/{file[:12]} for {name}", why))
    return tuple(good), refusals
