"""Content to a registry: what it has is not sent, what a repository beside has is mounted, the rest is streamed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from configs.canonical import digest_bytes
from delivery.clients.bundles.manifests import Descriptor
from delivery.clients.registry.errors import LyingRegistryError, RegistryError
from delivery.clients.registry.reference import Reference
from delivery.clients.registry.wire import Wire

Sent = Literal["there", "mounted", "sent"]
MOST_MOUNTS = 3  # neighbours that are asked for one blob


def put_file(wire: Wire, to: Reference, entry: Descriptor, file: Path, neighbours: Sequence[str] = ()) -> Sent:
    """One blob from a file, which is read as it goes out. `neighbours` are paths of repositories of this registry."""
    return _put(wire, to, entry, file, neighbours)


def put_bytes(wire: Wire, to: Reference, entry: Descriptor, content: bytes) -> Sent:
    """One small blob."""
    return _put(wire, to, entry, content, ())


def put_manifest(wire: Wire, to: Reference, content: bytes, media_type: str) -> Mapping[str, str]:
    """These bytes by their digest, or under the reference's tag where it has no digest; the answer's headers."""
    name, digest = to.digest or to.tag, digest_bytes(content)
    url, where = wire.url(f"/v2/{to.path}/manifests/{name}"), str(to)

    def once() -> Mapping[str, str]:
        headers = {"Content-Type": media_type}
        with wire.ask("PUT", url, where, wanted=(200, 201, 202), headers=headers, body=content) as response:
            said = response.headers.get("Docker-Content-Digest", digest)
            if said != digest:
                raise LyingRegistryError(
                    f"the registry took {digest} and calls it {said}", where=where, cure="do not use this registry"
                )
            return dict(response.headers)

    return wire.patiently(once)


def has(wire: Wire, to: Reference, kind: Literal["blobs", "manifests"], entry: Descriptor) -> bool:
    """Whether the repository has it, by the registry's own word."""
    url = wire.url(f"/v2/{to.path}/{kind}/{entry['digest']}")

    def once() -> bool:
        headers = {"Accept": entry["mediaType"]} if kind == "manifests" else {}
        with wire.ask("HEAD", url, str(to), wanted=(200, 404), headers=headers) as response:
            size = response.headers.get("Content-Length")
            return response.status_code == 200 and size in (None, str(entry["size"]))

    return wire.patiently(once)


def _put(wire: Wire, to: Reference, entry: Descriptor, body: Path | bytes, neighbours: Sequence[str]) -> Sent:
    if has(wire, to, "blobs", entry):
        return "there"
    for neighbour in neighbours[:MOST_MOUNTS]:
        if _mounted(wire, to, entry, neighbour):
            return "mounted"
    wire.patiently(lambda: _upload(wire, to, entry, body))
    return "sent"


def _mounted(wire: Wire, to: Reference, entry: Descriptor, neighbour: str) -> bool:
    path = f"/v2/{to.path}/blobs/uploads/?mount={entry['digest']}&from={quote(neighbour, safe='')}"
    try:
        with wire.ask("POST", wire.url(path), str(to), wanted=(201, 202)) as response:
            if response.status_code == 201:
                return True
            abandoned = wire.here(response.headers.get("Location", ""))
        if response.headers.get("Location"):
            wire.ask("DELETE", abandoned, str(to), wanted=(200, 202, 204, 404, 405)).close()
    except RegistryError:  # to mount is a favour; the upload that follows says what is wrong
        return False
    return False


def _upload(wire: Wire, to: Reference, entry: Descriptor, body: Path | bytes) -> None:
    where = f"{to.repository}@{entry['digest']}"
    with wire.ask("POST", wire.url(f"/v2/{to.path}/blobs/uploads/"), where, wanted=(202,)) as response:
        location = response.headers.get("Location", "")
    if not location:
        raise LyingRegistryError("the registry opens an upload and does not say where", where=where)
    url = wire.here(location)
    url += ("&" if "?" in url else "?") + f"digest={quote(entry['digest'], safe='')}"
    headers = {"Content-Type": "application/octet-stream"}
    with wire.ask("PUT", url, where, wanted=(201, 204), headers=headers, body=body) as response:
        said = response.headers.get("Docker-Content-Digest", entry["digest"])
    if said != entry["digest"]:
        raise LyingRegistryError(f"the registry took {entry['digest']} and calls it {said}", where=where)
