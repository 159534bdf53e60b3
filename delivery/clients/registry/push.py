"""A bundle from the state folder into a registry, under its digest, and a tag for people to find it by."""

from dataclasses import dataclass
from pathlib import Path

from configs.canonical import digest_bytes
from delivery.build.bundle import Bundle
from delivery.clients.bundles import layout
from delivery.clients.bundles.manifests import INDEX, MANIFEST
from delivery.clients.registry import fetch, known
from delivery.clients.registry.attached import attach
from delivery.clients.registry.errors import RegistryError
from delivery.clients.registry.reference import Reference
from delivery.clients.registry.send import Sent, has, put_file, put_manifest
from delivery.clients.registry.verify import signatures_in
from delivery.clients.registry.wire import Wire
from delivery.progress import Progress, silent


@dataclass(frozen=True)
class Pushed:
    """A bundle in a registry."""

    reference: Reference  # with its digest
    bundle: Bundle
    blobs: dict[str, Sent]  # by digest
    signatures: int


def push(
    wire: Wire,
    to: Reference,
    folder: Path,
    home: Path,
    *,
    move_tag: bool = False,
    on_progress: Progress = silent,
) -> Pushed:
    """The bundle of a verified layout, and the signatures beside it; repeating it sends nothing twice.

    The tag is set last: who finds it finds everything. A tag that leads elsewhere is refused (RegistryError) unless
    `move_tag`.
    """
    bundle = layout.verify(folder)
    index = (folder / "index.json").read_bytes()
    there = Reference(to.host, to.path, to.tag, digest_bytes(index))
    if to.tag is not None and not move_tag:
        _require_free(wire, to, str(there.digest))
    neighbours = known.neighbours(home, to)
    sent: dict[str, Sent] = {}
    for entry, file in layout.blobs_of(folder):
        on_progress(len(sent), 0, f"offering {entry['size']:,} bytes")
        if entry["mediaType"] == MANIFEST:
            is_there = has(wire, there, "manifests", entry)
            if not is_there:
                put_manifest(wire, there.at(entry["digest"]).by_digest(), file.read_bytes(), MANIFEST)
            sent[entry["digest"]] = "there" if is_there else "sent"
        else:
            sent[entry["digest"]] = put_file(wire, there, entry, file, neighbours)
    put_manifest(wire, there.by_digest(), index, INDEX)
    signatures = signatures_in(folder)
    for signature in signatures.values():
        attach(wire, there.by_digest(), index, signature)
    if to.tag is not None:
        put_manifest(wire, to, index, INDEX)
    fetch.manifest(wire, there.by_digest())  # it is believed when it gives back what it took
    known.remember(home, there, bundle.digest)
    return Pushed(there, bundle, sent, len(signatures))


def _require_free(wire: Wire, to: Reference, digest: str) -> None:
    try:
        found = digest_bytes(fetch.manifest(wire, to))
    except RegistryError as error:
        if error.status == 404:
            return
        raise
    if found != digest:
        raise RegistryError(
            f"the tag {to.tag} leads to {found}, and not to {digest}",
            where=str(to),
            cure="name another tag, or move it: --move-tag",
        )
