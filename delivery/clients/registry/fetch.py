"""Content by its digest, from a registry that may lie: hashed as it comes, continued where it broke off."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import requests

from configs.canonical import digest_bytes, short
from delivery.clients.bundles.layout import MOST_JSON_BYTES
from delivery.clients.bundles.manifests import INDEX, MANIFEST, Descriptor
from delivery.clients.registry.errors import AGAIN, LyingRegistryError, PassingError, RegistryError
from delivery.clients.registry.reference import Reference
from delivery.clients.registry.wire import Wire

STEP = 1024 * 1024


def manifest(wire: Wire, reference: Reference, media_type: str = INDEX) -> bytes:
    """What a tag or a digest names, its own digest checked. Raises RegistryError."""
    name = reference.digest or reference.tag or "latest"
    where = str(reference)

    def once() -> bytes:
        url = wire.url(f"/v2/{reference.path}/manifests/{name}")
        with wire.ask("GET", url, where, headers={"Accept": f"{media_type}, {MANIFEST}"}) as response:
            content = body_of(wire, response, where)
            said = reference.digest or response.headers.get("Docker-Content-Digest")
        if said is not None and digest_bytes(content) != said:
            raise _lie(f"a manifest of digest {digest_bytes(content)} came for {said}", where)
        return content

    return wire.patiently(once)


def body_of(wire: Wire, response: requests.Response, where: str) -> bytes:
    """A small body as a whole."""
    content = b""
    for part in wire.parts_of(response, where):
        content += part
        if len(content) > MOST_JSON_BYTES:
            raise LyingRegistryError(
                f"the registry sends more than {MOST_JSON_BYTES} bytes for a manifest", where=where
            )
    return content


def parsed(content: bytes, where: str) -> dict[str, Any]:
    """A manifest's JSON, as far as it is one object."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RegistryError("what is there is no manifest", where=where, cure="name a bundle that slipway push made")
    return value


def blob(wire: Wire, reference: Reference, entry: Descriptor, downloads: Path, local: Sequence[Path]) -> Path:
    """The blob of a descriptor in a folder of downloads, verified, fetched only if it is not there.

    `local` are files that may be it. One process at a time works in a folder of downloads.
    """
    kind = "manifests" if entry["mediaType"] == MANIFEST else "blobs"
    where = f"{reference.repository}@{entry['digest']}"
    url = wire.url(f"/v2/{reference.path}/{kind}/{entry['digest']}")
    downloads.mkdir(parents=True, exist_ok=True)
    whole = downloads / short(str(entry["digest"]), 64)
    if _is_whole(whole, entry):
        return whole
    with whole.with_suffix(".part").open("a+b") as part:
        if not any(_copied(path, part, entry) for path in local):
            wire.patiently(lambda: _fetch(wire, url, where, entry, part))
        part.flush()
        os.fsync(part.fileno())
    whole.with_suffix(".part").replace(whole)
    return whole


def _is_whole(path: Path, entry: Descriptor) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size != entry["size"]:
        return False
    with path.open("rb") as file:
        return _hash_of(file).hexdigest() == path.name


def _hash_of(file: IO[bytes]) -> "hashlib._Hash":
    found = hashlib.sha256()
    while block := file.read(STEP):
        found.update(block)
    return found


def _copied(path: Path, part: IO[bytes], entry: Descriptor) -> bool:
    """Whether a file here is the blob; then the part holds it."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != entry["size"]:
        return False
    found = hashlib.sha256()
    part.truncate(0)
    with path.open("rb") as file:
        while block := file.read(STEP):
            found.update(block)
            part.write(block)
    is_it: bool = "sha256:" + found.hexdigest() == entry["digest"]
    if not is_it:
        part.truncate(0)
    return is_it


def _fetch(wire: Wire, url: str, where: str, entry: Descriptor, part: IO[bytes]) -> None:
    """Continues the part to its end. One of the wrong digest is emptied, since nobody knows which byte is wrong."""
    size, digest = int(entry["size"]), entry["digest"]
    part.seek(0)
    found = _hash_of(part)
    have = part.tell()
    if have == size and "sha256:" + found.hexdigest() == digest:
        return
    if not 0 < have < size:
        part.truncate(0)
        found, have = hashlib.sha256(), 0
    headers = {"Accept": f"{entry['mediaType']}, */*"} | ({"Range": f"bytes={have}-"} if have else {})
    with wire.ask("GET", url, where, wanted=(200, 206, 416), headers=headers) as response:
        is_rest = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        was_continued = response.status_code == 206 and is_rest
        if have and not was_continued:
            part.truncate(0)
            found, have = hashlib.sha256(), 0
        for block in wire.parts_of(response, where) if was_continued or response.status_code == 200 else ():
            have += len(block)
            if have > size:
                break
            found.update(block)
            part.write(block)
    actual = "sha256:" + found.hexdigest()
    if have < size:
        what = f"the registry broke off: {have} of {size} bytes of {digest} came"
        raise PassingError(what, where=where, cure=AGAIN)
    if have > size or actual != digest:
        part.truncate(0)
        if was_continued:
            raise PassingError("the beginning that was here does not fit", where=where, cure=AGAIN)
        came = f"more than {size} bytes" if have > size else f"content of digest {actual}"
        raise _lie(f"{came} came for {size} bytes of {digest}", where)


def _lie(what: str, where: str) -> LyingRegistryError:
    return LyingRegistryError(
        f"the registry sends something else than was asked for: {what}",
        where=where,
        cure="nothing of it is used; ask whoever runs the registry, or pull from another one",
    )
