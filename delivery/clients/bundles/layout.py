"""One bundle as an OCI image layout, which a registry takes as it is, and every digest verified when it is read.

The same bundle always gives the same layout. Registry clients are known to hand out tampered blobs without a word, so
reading goes index -> manifests -> configurations and layers -> files -> adapter digest -> bundle digest, and names the
file at which that chain breaks. The digest of `index.json` is what a registry calls the bundle, and what is signed.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from configs.canonical import canonical_json, digest_bytes, short
from delivery.build.bundle import Bundle
from delivery.build.documents.agreement import problems_with_documents
from delivery.build.documents.origin import NAMES as DOCUMENTS
from delivery.clients.bundles import adapters as adapter_store
from delivery.clients.bundles import layers as tar_layers
from delivery.clients.bundles.layers import BUNDLE_FILE, damaged
from delivery.clients.bundles.manifests import (
    BUNDLE_DIGEST,
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    MODELPACK,
    Descriptor,
    index_of,
)

LAYOUT = canonical_json({"imageLayoutVersion": "1.0.0"})
SIGNATURES = "signatures"  # beside the layout's own files; each is verified when it is asked for
KNOWN_FILES = frozenset({*tar_layers.KINDS, *DOCUMENTS})
MOST_JSON_BYTES = 4 * 1024 * 1024  # of an index, a manifest, a configuration: what registries take at least
MOST_DOCUMENT_BYTES = 64 * 1024 * 1024  # one is read as a whole
MOST_MANIFESTS = 8


def write_layout(
    bundle: Bundle, adapter_folder: Path | None, folder: Path, documents: Mapping[str, bytes] | None = None
) -> None:
    """Fills an empty folder.

    `adapter_folder` has the bundle's files; `documents`: name -> content, see `delivery.build.documents`.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    files: dict[str, tar_layers.Content] = {BUNDLE_FILE: canonical_json(bundle.model_dump(mode="json"))}
    if adapter_folder is not None:
        files |= {name: adapter_folder / name for name in bundle.files}
    files |= documents or {}
    layers: dict[str, Descriptor] = {}
    for kind, of_kind in tar_layers.by_kind(files).items():
        fresh = blobs / "layer"
        tar_layers.write_layer(fresh, of_kind)
        digest = adapter_store.file_digest(fresh)
        layers[kind] = {"mediaType": LAYER, "digest": digest, "size": fresh.stat().st_size}
        fresh.rename(blobs / short(digest, 64))
    index, small = index_of(bundle, layers)
    for digest, content in small.items():
        (blobs / short(digest, 64)).write_bytes(content)
    (folder / "index.json").write_bytes(index)
    (folder / "oci-layout").write_bytes(LAYOUT)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o444)


def verify(folder: Path) -> Bundle:
    """The bundle in a folder, after its whole chain of digests. Raises SlipwayError naming the file that breaks it."""
    try:
        return _verified(folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, f"not the index of one bundle: {error!r}") from error


def _verified(folder: Path) -> Bundle:
    if _plain(folder / "oci-layout").read_bytes() != LAYOUT:
        raise damaged(folder / "oci-layout", "not an OCI image layout 1.0.0")
    entries = _entries(folder)
    image = _the_image(folder, entries)
    manifests = {entry["digest"]: _manifest(folder, entry) for entry in entries}
    ours = manifests[image["digest"]]
    layers = [layer["digest"] for layer in ours["layers"]]
    config = json.loads(_checked(folder, ours["config"]))
    if config["rootfs"]["diff_ids"] != layers:
        raise damaged(_blob(folder, ours["config"]["digest"]), "it names other layers than the manifest")
    for entry in entries:
        found = [layer["digest"] for layer in manifests[entry["digest"]]["layers"]]
        is_ours = found == layers if entry.get("artifactType") == MODELPACK else found[-len(layers) :] == layers
        if not is_ours:
            raise damaged(_blob(folder, entry["digest"]), "its layers are not those of the bundle's image")
    files = [_blob(folder, digest) for digest in layers]
    bundle = _bundle_in(files)
    for path, named in (
        (folder / "index.json", image["annotations"][BUNDLE_DIGEST]),
        (_blob(folder, image["digest"]), ours["annotations"].get(BUNDLE_DIGEST)),
        (_blob(folder, ours["config"]["digest"]), config["config"]["Labels"].get(BUNDLE_DIGEST)),
    ):
        if named != bundle.digest:
            raise damaged(path, f"it speaks of bundle {named}, and the image holds {bundle.digest}")
    if not folder.name.startswith(".") and folder.name != short(bundle.digest):
        raise damaged(folder, f"the folder's name says otherwise: it holds bundle {bundle.digest}")
    _require_nothing_else(folder, entries, manifests)
    problems = problems_with_documents(bundle, _documents_in(files))
    if problems:
        raise damaged(files[-1], "; ".join(map(str, problems)))
    return bundle


def blobs_of(folder: Path) -> Iterator[tuple[Descriptor, Path]]:
    """Descriptor and file of all that the index leads to, in the order in which a registry takes it: manifests last."""
    seen = set()
    entries = _entries(folder)
    manifests = [_manifest(folder, entry) for entry in entries]
    for entry in [*(part for manifest in manifests for part in (manifest["config"], *manifest["layers"])), *entries]:
        if entry["digest"] not in seen:
            seen.add(entry["digest"])
            yield entry, _blob(folder, entry["digest"])


def adapter_files(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the adapter's files in a verified layout; each is to be read before the next is asked for."""
    for layer in _manifest(folder, _the_image(folder, _entries(folder)))["layers"]:
        for name, content in tar_layers.members(_blob(folder, layer["digest"]), KNOWN_FILES):
            if name in adapter_store.FILES:
                yield name, content


def documents(folder: Path) -> dict[str, bytes]:
    """Name -> content of the documents in a verified layout; empty for a bundle that was made before there were any."""
    layers = _manifest(folder, _the_image(folder, _entries(folder)))["layers"]
    return _documents_in([_blob(folder, layer["digest"]) for layer in layers])


def _documents_in(layers: list[Path]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for layer in layers:
        for name, content in tar_layers.members(layer, KNOWN_FILES):
            if name not in DOCUMENTS:
                continue
            if name in found:
                raise damaged(layer, f"{name} is in it twice")
            found[name] = content.read(MOST_DOCUMENT_BYTES)
            if content.read(1):
                raise damaged(layer, f"{name} has more than {MOST_DOCUMENT_BYTES} bytes")
    return found


def image_manifest(folder: Path) -> dict[str, Any]:
    """That of the image that holds the bundle and nothing else."""
    return _manifest(folder, _the_image(folder, _entries(folder)))


def image_digest(folder: Path) -> str:
    """The digest of the image's manifest: what a container runtime calls the image."""
    return str(_the_image(folder, _entries(folder))["digest"])


def index_digest(folder: Path) -> str:
    """The digest of the whole: what a registry calls the bundle."""
    return digest_bytes(_plain(folder / "index.json").read_bytes())


def _plain(path: Path) -> Path:
    """A file that is no link: what a link leads to may be changed by whoever owns the other end."""
    if path.is_symlink():
        raise damaged(path, "it is a link")
    if not path.is_file():
        raise damaged(path, "the file is missing" if path.parent.name != "sha256" else "the blob is missing")
    return path


def _entries(folder: Path) -> list[Descriptor]:
    path = _plain(folder / "index.json")
    try:
        index = json.loads(path.read_bytes())
        entries = [dict(entry) for entry in index["manifests"]]
        if index["mediaType"] != INDEX or not 1 <= len(entries) <= MOST_MANIFESTS:
            raise damaged(path, "not the index of one bundle")
        for entry in entries:
            if entry["mediaType"] != MANIFEST or entry.get("artifactType") not in (None, MODELPACK):
                raise damaged(path, f"unexpected media types: {entry['mediaType']}, {entry.get('artifactType')}")
        return entries
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"not the index of one bundle: {error!r}") from error


def _the_image(folder: Path, entries: list[Descriptor]) -> Descriptor:
    """The entry that holds the bundle and nothing else; an image on another base is none."""
    images = [e for e in entries if "artifactType" not in e and BUNDLE_DIGEST in (e.get("annotations") or {})]
    if len(images) != 1:
        raise damaged(folder / "index.json", f"not the index of one bundle: {len(images)} images that name one")
    return images[0]


def _manifest(folder: Path, entry: Descriptor) -> dict[str, Any]:
    path = _blob(folder, entry["digest"])
    try:
        manifest = json.loads(_checked(folder, entry))
        is_image = "artifactType" not in entry
        if is_image and manifest["config"]["mediaType"] != CONFIG:
            raise damaged(path, "unexpected media types")
        for layer in manifest["layers"]:
            if "artifactType" not in entry and BUNDLE_DIGEST in entry["annotations"] and layer["mediaType"] != LAYER:
                raise damaged(path, f"unexpected layer type {layer['mediaType']}")
        for part in (manifest["config"], *manifest["layers"]):
            _check_size_and_digest(_blob(folder, part["digest"]), part)
        if not manifest["layers"]:
            raise damaged(path, "it has no layer")
        return dict(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"not an image's manifest: {error!r}") from error


def is_digest(text: str) -> bool:
    """Whether it is one of sha256, which makes a plain file name, never a path that leaves its folder."""
    return re.fullmatch(r"sha256:[0-9a-f]{64}", text) is not None


def _blob(folder: Path, digest: Any) -> Path:
    if not is_digest(str(digest)):
        raise damaged(folder / "index.json", f"{digest!r} is no sha256 digest")
    return folder / "blobs" / "sha256" / short(digest, 64)


def _checked(folder: Path, entry: Descriptor) -> bytes:
    path = _blob(folder, entry["digest"])
    _check_size_and_digest(path, entry)
    if path.stat().st_size > MOST_JSON_BYTES:
        raise damaged(path, f"{path.stat().st_size} bytes, and at most {MOST_JSON_BYTES} are read")
    return path.read_bytes()


def _check_size_and_digest(path: Path, entry: Descriptor) -> None:
    size = _plain(path).stat().st_size
    if size != entry["size"]:
        raise damaged(path, f"{size} bytes instead of {entry['size']}")
    actual = adapter_store.file_digest(path)
    if actual != entry["digest"]:
        raise damaged(path, f"its content has digest {actual}")


def _require_nothing_else(folder: Path, entries: list[Descriptor], manifests: dict[str, dict[str, Any]]) -> None:
    parts = [part for manifest in manifests.values() for part in (manifest["config"], *manifest["layers"])]
    known = {_blob(folder, entry["digest"]) for entry in (*entries, *parts)}
    known |= {folder / "index.json", folder / "oci-layout", folder / "blobs", folder / "blobs" / "sha256"}
    for path in sorted(folder.rglob("*")):
        if path not in known and path.relative_to(folder).parts[0] != SIGNATURES:
            raise damaged(path, "it does not belong into a bundle")


def _bundle_in(layers: list[Path]) -> Bundle:
    files: dict[str, str] = {}
    text = b""
    for layer in layers:
        for name, content in tar_layers.members(layer, KNOWN_FILES):
            if name in files or (name == BUNDLE_FILE and text):
                raise damaged(layer, f"{name} is in it twice")
            if name == BUNDLE_FILE:
                text = content.read(MOST_JSON_BYTES)
                of_bundle = layer
            elif name not in DOCUMENTS:
                files[name] = "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    where = of_bundle if text else layers[-1]
    try:
        bundle = Bundle.model_validate_json(text)
    except ValidationError as error:
        raise damaged(where, f"{BUNDLE_FILE} is not a bundle: {error.error_count()} problem(s)") from error
    if files != bundle.files:
        raise damaged(where, "the files under /models are not those that bundle.json names")
    if bundle.trained and adapter_store.digest_of_files(files) != bundle.trained.digest:
        what = "adapter" if bundle.adapter else "merged model"
        raise damaged(where, f"its files do not make up {what} {bundle.trained.digest}")
    return bundle
