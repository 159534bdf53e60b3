"""One index, read by others: the ModelCar image that runs nowhere, and the CNCF ModelPack manifest of the same layers.

Kubernetes and KServe mount the image; ModelPack's tools read the other manifest. Both name the base model.
"""

from collections.abc import Mapping
from typing import Any

from configs.canonical import canonical_json, digest_bytes, short
from delivery.build.bundle import Bundle
from delivery.clients.bundles.layers import ROOT

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MODELPACK = "application/vnd.cncf.model.manifest.v1+json"
MODELPACK_CONFIG = "application/vnd.cncf.model.config.v1+json"
BUNDLE_DIGEST = "io.slipway.bundle.digest"
BASE_NAME, BASE_REVISION = "io.slipway.base-model.name", "io.slipway.base-model.revision"
PLATFORM = {"architecture": "amd64", "os": "linux"}  # required by the format; nothing in the image runs
NO_PLATFORM = {"architecture": "unknown", "os": "unknown"}  # so that nobody pulls the ModelPack as an image

Descriptor = dict[str, Any]
Blobs = dict[str, bytes]


def describe(content: bytes, media_type: str) -> Descriptor:
    """The descriptor of some bytes."""
    return {"mediaType": media_type, "digest": digest_bytes(content), "size": len(content)}


def index_of(bundle: Bundle, layers: Mapping[str, Descriptor]) -> tuple[bytes, Blobs]:
    """The bytes of the index, and by digest those of the manifests and configurations below it.

    `layers` are the layers' descriptors by kind, in order.
    """
    blobs: Blobs = {}
    image = _put(blobs, _image(bundle, layers, blobs), MANIFEST)
    image["platform"] = PLATFORM
    image["annotations"] = _annotations(bundle) | {"org.opencontainers.image.ref.name": bundle.variant_name}
    pack = _put(blobs, _modelpack(bundle, layers, blobs), MANIFEST)
    pack |= {"artifactType": MODELPACK, "platform": NO_PLATFORM, "annotations": _annotations(bundle)}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [image, pack],
        "annotations": _annotations(bundle),
    }
    return canonical_json(index), blobs


def _image(bundle: Bundle, layers: Mapping[str, Descriptor], blobs: Blobs) -> dict[str, Any]:
    config = PLATFORM | {
        "config": {"Labels": {BUNDLE_DIGEST: bundle.digest}},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers.values()]},
    }
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _put(blobs, config, CONFIG),
        "layers": [{**layer, "mediaType": LAYER} for layer in layers.values()],
        "annotations": _annotations(bundle) | {"org.opencontainers.image.title": bundle.variant_name},
    }


def _modelpack(bundle: Bundle, layers: Mapping[str, Descriptor], blobs: Blobs) -> dict[str, Any]:
    what = "base model with its prompt" if bundle.adapter is None else f"LoRA of rank {bundle.adapter.rank}"
    what = "merged model" if bundle.merged else what
    config = {
        "descriptor": {
            "name": bundle.route,
            "version": short(bundle.digest),
            "title": bundle.variant_name,
            "description": f"{what}, for {bundle.base_model} at {bundle.base_revision}",
        },
        "config": {} if bundle.trained is None else {"format": "safetensors"},
        "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers.values()]},
    }
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": MODELPACK,
        "config": _put(blobs, config, MODELPACK_CONFIG),
        "layers": [
            {
                **layer,
                "mediaType": f"application/vnd.cncf.model.{kind}.v1.tar",
                "annotations": {"org.cncf.model.filepath": ROOT},
            }
            for kind, layer in layers.items()
        ],
        "annotations": _annotations(bundle),
    }


def _annotations(bundle: Bundle) -> dict[str, str]:
    return {BUNDLE_DIGEST: bundle.digest, BASE_NAME: bundle.base_model, BASE_REVISION: bundle.base_revision}


def _put(blobs: Blobs, value: Any, media_type: str) -> Descriptor:
    content = canonical_json(value)
    blobs[digest_bytes(content)] = content
    return describe(content, media_type)
