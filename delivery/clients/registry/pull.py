"""A bundle from a registry into a state folder: by digest, each byte checked as it comes, whole or not at all.

What has arrived stays below `downloads` until the bundle is whole, so a pull that was killed goes on where it was.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.canonical import digest_bytes, short
from configs.errors import SlipwayError
from configs.registry import Signatures
from delivery.build.bundle import Bundle
from delivery.clients.bundles import layout
from delivery.clients.bundles.manifests import INDEX, MANIFEST, MODELPACK, Descriptor
from delivery.clients.fresh_folder import discard, explained_writes, fresh_folder
from delivery.clients.registry import fetch, known
from delivery.clients.registry.attached import attached
from delivery.clients.registry.errors import RegistryError
from delivery.clients.registry.reference import Reference
from delivery.clients.registry.verify import Verified, add_signature, signatures_in, verify
from delivery.clients.registry.wire import Wire
from delivery.progress import Progress, silent

MOST_PARTS = 64  # layers of a manifest


@dataclass(frozen=True)
class Pulled:
    """A bundle in the state folder, as `verify` found it."""

    reference: Reference  # with its digest
    bundle: Bundle
    folder: Path
    signed_by: tuple[str, ...]
    fetched_bytes: int  # what had to be asked for; 0: it was here


def resolve(wire: Wire, reference: Reference, home: Path | None = None) -> Reference:
    """The reference with the digest that its tag leads to now.

    With the state folder, a tag that led elsewhere before is refused (RegistryError): which of the two is meant, a
    person says.
    """
    if reference.digest is not None:
        return reference
    found = reference.at(digest_bytes(fetch.manifest(wire, reference)))
    before = known.last_digest(home, reference) if home is not None and reference.tag else None
    if before is not None and before != found.digest:
        raise RegistryError(
            f"the tag {reference.tag} moved: it led to {before}, and leads to {found.digest} now",
            where=str(reference),
            cure=f"name the digest that you want; this one is taken from now on by: slipway pull {found}",
        )
    return found


def pull(
    wire: Wire, reference: Reference, home: Path, policy: Signatures, now: float, on_progress: Progress = silent
) -> Pulled:
    """The bundle of a digest, verified, as home/bundles/<digest12>; `now` is UNIX seconds, for certificates.

    Raises RegistryError for what the registry does, SlipwayError for a bundle that is not what it says, or that nobody
    signed who had to. Nothing of it is left below `bundles` then.
    """
    if reference.digest is None:
        raise SlipwayError(
            "a tag may lead elsewhere at any time", where=str(reference), cure="resolve it to its digest"
        )
    by_digest, downloads = reference.by_digest(), home / "downloads" / short(reference.digest)
    with explained_writes(home, "what is pulled"), _one_at_a_time(home):
        index = fetch.manifest(wire, by_digest)
        parts, fetched = _parts(wire, by_digest, index, home, downloads, on_progress)
        signatures = attached(wire, by_digest, downloads)
        with fresh_folder(home / "bundles", f"bundle {short(reference.digest)}") as fresh:
            _lay_out(fresh, index, parts)
            for signature in (*signatures, *_signatures_here(home, reference.digest)):
                add_signature(fresh, signature)
            found = verify(fresh, reference.digest, policy, now)
            place = _settle(fresh, found, home)
        shutil.rmtree(downloads, ignore_errors=True)
        with suppress(OSError):  # another bundle's lie there
            downloads.parent.rmdir()
    known.remember(home, reference, found.bundle.digest)
    return Pulled(by_digest, found.bundle, place, found.signed_by, fetched)


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Who comes second finds what the first has fetched."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".pulling").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parts(
    wire: Wire, reference: Reference, index: bytes, home: Path, downloads: Path, on_progress: Progress
) -> tuple[list[Path], int]:
    """The files of everything that the index leads to, and how many bytes of them were not here."""
    files: dict[str, Path] = {}
    fetched = 0

    def get(entry: Descriptor) -> Path:
        nonlocal fetched
        if entry["digest"] not in files:
            here = list((home / "bundles").glob(f"*/blobs/sha256/{short(entry['digest'], 64)}"))
            on_progress(len(files), 0, f"getting {entry['size']:,} bytes")
            files[entry["digest"]] = fetch.blob(wire, reference, entry, downloads, here)
            fetched += 0 if here else int(entry["size"])
        return files[entry["digest"]]

    for entry in _descriptors(fetch.parsed(index, str(reference)), ("manifests",), layout.MOST_MANIFESTS, reference):
        if entry["mediaType"] != MANIFEST or entry.get("artifactType") not in (None, MODELPACK):
            raise RegistryError(f"not a bundle: it leads to {entry['mediaType']}", where=str(reference))
        manifest = fetch.parsed(get(entry).read_bytes(), str(reference))
        for part in _descriptors(manifest, ("config", "layers"), MOST_PARTS, reference):
            get(part)
    return list(files.values()), fetched


def _descriptors(value: dict[str, Any], keys: tuple[str, ...], most: int, where: Reference) -> Iterator[Descriptor]:
    """Those under some keys, each as it has to be: a digest is no path, a size no surprise."""
    found: list[Any] = []
    for key in keys:
        under = value.get(key)
        found += under if isinstance(under, list) else [under]
    good = [
        one
        for one in found
        if isinstance(one, dict)
        and isinstance(one.get("mediaType"), str)
        and isinstance(one.get("digest"), str)
        and layout.is_digest(one["digest"])
        and type(one.get("size")) is int
        and one["size"] >= 0
    ]
    if not found or len(good) != len(found) or len(found) > most:
        what = f"not a bundle: {', '.join(keys)} of {value.get('mediaType')} are not what {INDEX} leads to"
        raise RegistryError(what, where=str(where), cure="name a bundle that slipway push made")
    yield from good


def _signatures_here(home: Path, digest: str) -> Iterator[bytes]:
    """Of the same index, added on this machine since it was pulled or built."""
    for index in (home / "bundles").glob("[0-9a-f]*/index.json"):
        if digest_bytes(index.read_bytes()) == digest:
            yield from signatures_in(index.parent).values()


def _lay_out(fresh: Path, index: bytes, parts: list[Path]) -> None:
    blobs = fresh / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for file in parts:
        shutil.copyfile(file, blobs / file.name)
        (blobs / file.name).chmod(0o444)
    for name, content in (("index.json", index), ("oci-layout", layout.LAYOUT)):
        (fresh / name).write_bytes(content)
        (fresh / name).chmod(0o444)


def _settle(fresh: Path, found: Verified, home: Path) -> Path:
    """To its place. The same bundle that lies there is replaced: another index of it may be signed, and this one is."""
    place = home / "bundles" / short(found.bundle.digest)
    discard(place)
    fresh.replace(place)
    return place
