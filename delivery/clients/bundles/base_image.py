"""A bundle's layers on those of another image, for what runs a shell beside them, as KServe's sidecar does.

The index then has a second image; the bundle's own stays in it, and so does the ModelPack. The digest of the index is
another one, always the same for the same base, so what was signed before is signed again.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from configs.canonical import canonical_json, digest_bytes, short
from configs.errors import SlipwayError
from delivery.build.bundle import Bundle
from delivery.clients.bundles import layout
from delivery.clients.bundles.adapters import file_digest
from delivery.clients.bundles.images import bundle_folder
from delivery.clients.bundles.manifests import (
    BUNDLE_DIGEST,
    CONFIG,
    MANIFEST,
    PLATFORM,
    Descriptor,
    describe,
)
from delivery.clients.fresh_folder import discard, fresh_folder

BASE_DIGEST = "org.opencontainers.image.base.digest"
KEPT = ("architecture", "os", "variant", "created", "config")  # of the base's configuration


def put_on_base(bundle: Bundle, home: Path, base: Path) -> Path:
    """The bundle's layout with an image on `base`, an OCI image layout. One that has it already is left alone.

    Raises SlipwayError for a base that cannot be used, with the file that shows it.
    """
    place = bundle_folder(bundle, home)
    layout.verify(place)
    index = json.loads((place / "index.json").read_bytes())
    entry = _image_in(base)
    if any(_base_of(one) == entry["digest"] for one in index["manifests"]):
        return place
    under = _read(base, entry)
    with fresh_folder(place.parent, f"bundle {short(bundle.digest)}") as fresh:
        shutil.copytree(place / "blobs", fresh / "blobs")
        blobs = fresh / "blobs" / "sha256"
        for layer in under["layers"]:
            shutil.copyfile(_checked(base, layer), blobs / short(layer["digest"], 64))
        rest = [one for one in index["manifests"] if _base_of(one) is None]
        index["manifests"] = [_image_on(bundle, place, base, entry, under, blobs), *rest]
        (fresh / "index.json").write_bytes(canonical_json(index))
        (fresh / "oci-layout").write_bytes(layout.LAYOUT)
        for path in fresh.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
        _drop_what_nothing_leads_to(fresh)
        layout.verify(fresh)
        discard(place)
        fresh.replace(place)
    return place


def _image_on(
    bundle: Bundle, place: Path, base: Path, entry: Descriptor, under: dict[str, Any], blobs: Path
) -> Descriptor:
    ours = layout.image_manifest(place)
    below = json.loads(_checked(base, under["config"]).read_bytes())
    config = {key: below[key] for key in KEPT if key in below}
    labels = (config.get("config") or {}).get("Labels") or {}
    config["config"] = (config.get("config") or {}) | {"Labels": labels | {BUNDLE_DIGEST: bundle.digest}}
    diffs = [*below["rootfs"]["diff_ids"], *(layer["digest"] for layer in ours["layers"])]
    config["rootfs"] = {"type": "layers", "diff_ids": diffs}
    said = {key: value for key, value in ours["annotations"].items() if key != BUNDLE_DIGEST}
    manifest = ours | {
        "config": _put(blobs, config, CONFIG),
        "layers": [*under["layers"], *ours["layers"]],
        "annotations": said | {BASE_DIGEST: entry["digest"]},
    }
    platform = {key: config[key] for key in ("architecture", "os", "variant") if key in config}
    return _put(blobs, manifest, MANIFEST) | {"platform": platform, "annotations": manifest["annotations"]}


def _base_of(entry: Descriptor) -> str | None:
    return (entry.get("annotations") or {}).get(BASE_DIGEST)


def _put(blobs: Path, value: Any, media_type: str) -> Descriptor:
    content = canonical_json(value)
    (blobs / short(digest_bytes(content), 64)).write_bytes(content)
    return describe(content, media_type)


def _drop_what_nothing_leads_to(folder: Path) -> None:
    """What an image on another base had."""
    needed = {path for _, path in layout.blobs_of(folder)}
    for path in (folder / "blobs" / "sha256").iterdir():
        if path not in needed:
            path.unlink()


def _image_in(base: Path) -> Descriptor:
    """The image of a layout; of several, that of our platform."""
    try:
        entries = json.loads((base / "index.json").read_bytes())["manifests"]
        nested = [one for one in entries if "index" in one["mediaType"] or "list" in one["mediaType"]]
        if nested:
            entries = json.loads(_checked(base, nested[0]).read_bytes())["manifests"]
        if len(entries) > 1:
            entries = [one for one in entries if PLATFORM.items() <= (one.get("platform") or {}).items()]
        (entry,) = entries
        return dict(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(base / "index.json", f"not the layout of one image: {error!r}") from error


def _read(base: Path, entry: Descriptor) -> dict[str, Any]:
    path = _checked(base, entry)
    try:
        manifest = dict(json.loads(path.read_bytes()))
        json.loads(_checked(base, manifest["config"]).read_bytes())["rootfs"]["diff_ids"]
        return manifest | {"layers": [dict(layer) for layer in manifest["layers"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(path, f"not an image's manifest: {error!r}") from error


def _checked(base: Path, entry: Descriptor) -> Path:
    digest = str(entry.get("digest"))
    if not layout.is_digest(digest):
        raise _unusable(base / "index.json", f"{digest!r} is no sha256 digest")
    path = base / "blobs" / "sha256" / short(digest, 64)
    if not path.is_file() or file_digest(path) != digest:
        raise _unusable(path, "the blob is missing, or has another digest than its name")
    return path


def _unusable(path: Path, what: str) -> SlipwayError:
    return SlipwayError(
        f"the base image cannot be used: {what}",
        where=str(path),
        cure="registry.base_image names the folder of an OCI image layout, with index.json and blobs/sha256",
    )
