"""One bundle as an OCI image layout: the adapter under /models, and every digest verified when it is read.

The same bundle with the same documents always gives the same image: nothing in it knows a time, a user or a machine.
Its first layer follows from the bundle alone; the second has the documents, which older images lack. Registry clients
are known to hand out tampered blobs without a word, so reading goes index -> manifest -> config and layers -> files ->
adapter digest -> bundle digest -> documents, and names the file at which that chain breaks.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from configs.canonical import canonical_json, digest_bytes, short
from configs.errors import SlipwayError
from delivery.build.bundle import Bundle
from delivery.build.documents.agreement import problems_with_documents
from delivery.build.documents.origin import NAMES as DOCUMENTS
from delivery.clients.bundles import adapters as adapter_store

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
BUNDLE_DIGEST = "io.slipway.bundle.digest"
LAYOUT = canonical_json({"imageLayoutVersion": "1.0.0"})
ROOT, BUNDLE_FILE = "models", "bundle.json"
FILES = (BUNDLE_FILE, *adapter_store.FILES)
MAX_DOCUMENT_BYTES = 64 * 2**20  # one is read as a whole


def write_layout(
    bundle: Bundle, adapter_folder: Path | None, folder: Path, documents: Mapping[str, bytes] | None = None
) -> None:
    """Fills an empty folder. `documents`: name -> content, see `delivery.build.documents`."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    files = {BUNDLE_FILE: canonical_json(bundle.model_dump(mode="json"))}
    layers = [_add_layer(blobs, files, adapter_folder, sorted(bundle.adapter.files) if bundle.adapter else [])]
    if documents:
        layers.append(_add_layer(blobs, dict(documents), None, []))
    image = {
        "architecture": "amd64",  # required by the format; nothing in the image runs
        "os": "linux",
        "config": {"Labels": {BUNDLE_DIGEST: bundle.digest}},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    config = _write_blob(blobs, canonical_json(image), CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": layers,
        "annotations": {BUNDLE_DIGEST: bundle.digest, "org.opencontainers.image.title": bundle.variant_name},
    }
    entry = _write_blob(blobs, canonical_json(manifest), MANIFEST)
    entry["annotations"] = {BUNDLE_DIGEST: bundle.digest, "org.opencontainers.image.ref.name": bundle.variant_name}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    (folder / "index.json").write_bytes(canonical_json(index))
    (folder / "oci-layout").write_bytes(LAYOUT)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o444)


def _write_blob(blobs: Path, content: bytes, media_type: str) -> dict[str, Any]:
    digest = digest_bytes(content)
    (blobs / short(digest, 64)).write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _add_layer(
    blobs: Path, texts: dict[str, bytes], adapter_folder: Path | None, adapter_files: list[str]
) -> dict[str, Any]:
    fresh = blobs / "layer"
    _write_layer(fresh, texts, adapter_folder, adapter_files)
    layer = {"mediaType": LAYER, "digest": adapter_store.file_digest(fresh), "size": fresh.stat().st_size}
    fresh.rename(blobs / short(str(layer["digest"]), 64))
    return layer


def _write_layer(path: Path, texts: dict[str, bytes], adapter_folder: Path | None, adapter_files: list[str]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        root = _entry(ROOT, 0)
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(root)
        for name in sorted([*texts, *adapter_files]):
            if name in texts:
                tar.addfile(_entry(f"{ROOT}/{name}", len(texts[name])), io.BytesIO(texts[name]))
            elif adapter_folder is not None:
                with (adapter_folder / name).open("rb") as file:
                    tar.addfile(_entry(f"{ROOT}/{name}", (adapter_folder / name).stat().st_size), file)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)  # time, user and group 0 and without names
    entry.size, entry.mode = size, 0o444
    return entry


def verify(folder: Path) -> Bundle:
    """The bundle in a folder, after its whole chain of digests. Raises SlipwayError naming the file that breaks it."""
    if not (folder / "oci-layout").is_file() or (folder / "oci-layout").read_bytes() != LAYOUT:
        raise _damaged(folder / "oci-layout", "not an OCI image layout 1.0.0")
    manifest = _manifest(folder)
    layers = [_blob(folder, entry["digest"]) for entry in manifest["layers"]]
    config = json.loads(_checked(folder, manifest["config"]))
    for layer, entry in zip(layers, manifest["layers"], strict=True):
        _check_size_and_digest(layer, entry)
    if config["rootfs"]["diff_ids"] != [entry["digest"] for entry in manifest["layers"]]:
        raise _damaged(_blob(folder, manifest["config"]["digest"]), "it names another layer than the manifest")
    bundle = _bundle_in(layers[0])
    index = json.loads((folder / "index.json").read_bytes())
    for path, named in (
        (folder / "index.json", index["manifests"][0]["annotations"].get(BUNDLE_DIGEST)),
        (_blob(folder, index["manifests"][0]["digest"]), manifest["annotations"].get(BUNDLE_DIGEST)),
        (_blob(folder, manifest["config"]["digest"]), config["config"]["Labels"].get(BUNDLE_DIGEST)),
    ):
        if named != bundle.digest:
            raise _damaged(path, f"it speaks of bundle {named}, and the image holds {bundle.digest}")
    if not folder.name.startswith(".") and folder.name != short(bundle.digest):
        raise _damaged(folder, f"the folder's name says otherwise: it holds bundle {bundle.digest}")
    for layer in layers[1:]:
        problems = problems_with_documents(bundle, _documents_in(layer))
        if problems:
            raise _damaged(layer, "; ".join(map(str, problems)))
    return bundle


def documents(folder: Path) -> dict[str, bytes]:
    """Name -> content of the documents in a verified layout; empty for a bundle that was made before there were any."""
    layers = _manifest(folder)["layers"][1:]
    return {name: text for entry in layers for name, text in _documents_in(_blob(folder, entry["digest"])).items()}


def _documents_in(layer: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, content in _members(layer, DOCUMENTS):
        if name in found:
            raise _damaged(layer, f"{name} is in it twice")
        found[name] = content.read(MAX_DOCUMENT_BYTES + 1)
        if len(found[name]) > MAX_DOCUMENT_BYTES:
            raise _damaged(layer, f"{name} has more than {MAX_DOCUMENT_BYTES} bytes")
    return found


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        index = json.loads(path.read_bytes())
        (entry,) = index["manifests"]
        manifest = json.loads(_checked(folder, entry))
        if (entry["mediaType"], manifest["config"]["mediaType"]) != (MANIFEST, CONFIG):
            raise _damaged(path, "unexpected media types")
        if not 1 <= len(manifest["layers"]) <= 2:
            raise _damaged(path, f"an image of {len(manifest['layers'])} layers")
        for layer in manifest["layers"]:
            if layer["mediaType"] != LAYER:
                raise _damaged(path, f"unexpected layer type {layer['mediaType']}")
        return dict(manifest)
    except FileNotFoundError:
        raise _damaged(path, "the file is missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"not the index of one image: {error!r}") from error


def _blob(folder: Path, digest: Any) -> Path:
    name = str(digest).removeprefix("sha256:")
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):  # never a path that leaves the folder
        raise _damaged(folder / "index.json", f"{digest!r} is no sha256 digest")
    return folder / "blobs" / "sha256" / name


def _checked(folder: Path, entry: dict[str, Any]) -> bytes:
    path = _blob(folder, entry["digest"])
    _check_size_and_digest(path, entry)
    return path.read_bytes()


def _check_size_and_digest(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_file():
        raise _damaged(path, "the blob is missing")
    if path.stat().st_size != entry["size"]:
        raise _damaged(path, f"{path.stat().st_size} bytes instead of {entry['size']}")
    actual = adapter_store.file_digest(path)
    if actual != entry["digest"]:
        raise _damaged(path, f"its content has digest {actual}")


def adapter_files(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the adapter's files in a verified layout; each is to be read before the next is asked for."""
    layer = _manifest(folder)["layers"][0]["digest"]
    yield from ((name, content) for name, content in _members(_blob(folder, layer), FILES) if name != BUNDLE_FILE)


def image_digest(folder: Path) -> str:
    """The digest of the image's manifest: what a registry calls the image."""
    return str(json.loads((folder / "index.json").read_bytes())["manifests"][0]["digest"])


def _members(layer: Path, allowed: tuple[str, ...]) -> Iterator[tuple[str, IO[bytes]]]:
    """The layer's regular files by their names below /models. Anything else in it is refused."""
    try:
        with tarfile.open(layer, "r:") as tar:
            for member in tar:
                if member.isdir() and member.name == ROOT:
                    continue
                root, _, name = member.name.partition("/")
                content = tar.extractfile(member) if member.isreg() else None
                if root != ROOT or name not in allowed or content is None:
                    raise _damaged(layer, f"{member.name} does not belong into a bundle")
                yield name, content
    except tarfile.TarError as error:
        raise _damaged(layer, f"not a tar file: {error}") from error


def _bundle_in(layer: Path) -> Bundle:
    files: dict[str, str] = {}
    text = b""
    for name, content in _members(layer, FILES):
        if name in files or (name == BUNDLE_FILE and text):
            raise _damaged(layer, f"{name} is in it twice")
        if name == BUNDLE_FILE:
            text = content.read()
        else:
            files[name] = "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    try:
        bundle = Bundle.model_validate_json(text)
    except ValidationError as error:
        raise _damaged(layer, f"{BUNDLE_FILE} is not a bundle: {error.error_count()} problem(s)") from error
    if files != (bundle.adapter.files if bundle.adapter else {}):
        raise _damaged(layer, "the files under /models are not those that bundle.json names")
    if bundle.adapter and adapter_store.digest_of_files(files) != bundle.adapter.digest:
        raise _damaged(layer, f"its files do not make up adapter {bundle.adapter.digest}")
    return bundle


def _damaged(path: Path, what: str) -> SlipwayError:
    return SlipwayError(f"a bundle is damaged: {what}", where=str(path), cure="remove its folder and build it again")
