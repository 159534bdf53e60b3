"""Signatures beside a bundle in a registry: artifacts that name it as their subject, as others' tools look for them.

A registry without the referrers API, such as Debian's, keeps their list under a tag that carries the bundle's digest.
"""

from pathlib import Path
from typing import Any

from configs.canonical import canonical_json, digest_bytes
from delivery.clients.bundles.layout import is_digest
from delivery.clients.bundles.manifests import INDEX, MANIFEST, Descriptor, describe
from delivery.clients.registry import fetch
from delivery.clients.registry.errors import LyingRegistryError, RegistryError
from delivery.clients.registry.reference import Reference
from delivery.clients.registry.send import put_bytes, put_manifest
from delivery.clients.registry.signatures import MOST_BYTES
from delivery.clients.registry.wire import Wire

SIGNATURE = "application/vnd.dev.sigstore.bundle.v0.3+json"  # what model-signing writes
EMPTY = "application/vnd.oci.empty.v1+json"
MOST = 50


def attach(wire: Wire, bundle: Reference, index: bytes, signature: bytes) -> None:
    """Puts a signature beside the bundle; repeating it changes nothing."""
    empty, layer = describe(b"{}", EMPTY), describe(signature, SIGNATURE)
    put_bytes(wire, bundle, empty, b"{}")
    put_bytes(wire, bundle, layer, signature)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SIGNATURE,
        "config": empty,
        "layers": [layer],
        "subject": describe(index, INDEX),
    }
    content = canonical_json(manifest)
    headers = put_manifest(wire, bundle.at(digest_bytes(content)), content, MANIFEST)
    if "OCI-Subject" in headers:
        return
    entry = describe(content, MANIFEST) | {"artifactType": SIGNATURE}
    listed = _listed_under_tag(wire, bundle)
    if entry["digest"] not in [one.get("digest") for one in listed]:
        merged = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*listed, entry]}
        put_manifest(wire, list_tag(bundle), canonical_json(merged), INDEX)


def attached(wire: Wire, bundle: Reference, downloads: Path) -> list[bytes]:
    """The signatures beside a bundle. What they are worth, whoever verifies says."""
    found = []
    for entry in listed(wire, bundle)[:MOST]:
        if entry.get("artifactType") != SIGNATURE or not _is_small(entry):
            continue
        manifest = fetch.parsed(fetch.blob(wire, bundle, entry, downloads, ()).read_bytes(), str(bundle))
        layers = manifest.get("layers")
        layer = layers[0] if isinstance(layers, list) and len(layers) == 1 else None
        if layer is not None and _is_small(layer) and layer["mediaType"] == SIGNATURE:
            found.append(fetch.blob(wire, bundle, layer, downloads, ()).read_bytes())
    return found


def _is_small(entry: Any) -> bool:
    """Whether it is a descriptor, of something that could be a signature; others' artifacts are passed over."""
    if not isinstance(entry, dict) or not isinstance(entry.get("mediaType"), str):
        return False
    size = entry.get("size")
    return is_digest(str(entry.get("digest"))) and type(size) is int and 0 <= size <= MOST_BYTES


def listed(wire: Wire, bundle: Reference) -> list[Descriptor]:
    """Descriptors of whatever names the bundle as its subject."""
    url = wire.url(f"/v2/{bundle.path}/referrers/{bundle.digest}")

    def once() -> bytes | None:
        with wire.ask("GET", url, str(bundle), wanted=(200, 400, 404, 405), headers={"Accept": INDEX}) as response:
            is_list = response.status_code == 200 and INDEX in response.headers.get("Content-Type", "")
            return fetch.body_of(wire, response, str(bundle)) if is_list else None

    content = wire.patiently(once)
    return _listed_under_tag(wire, bundle) if content is None else _entries(content, bundle)


def _listed_under_tag(wire: Wire, bundle: Reference) -> list[Descriptor]:
    try:
        return _entries(fetch.manifest(wire, list_tag(bundle)), bundle)
    except RegistryError as error:
        if error.status == 404:
            return []
        raise


def list_tag(bundle: Reference) -> Reference:
    """Where a registry without the referrers API keeps that list."""
    return Reference(bundle.host, bundle.path, tag=str(bundle.digest).replace(":", "-"))


def _entries(content: bytes, bundle: Reference) -> list[Descriptor]:
    entries: Any = fetch.parsed(content, str(bundle)).get("manifests")
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise LyingRegistryError("its list of signatures is none", where=str(bundle))
    return entries
