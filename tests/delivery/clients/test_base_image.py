"""A bundle's layers on another image's: for those who run a shell in it, and always the same bytes."""

import io
import json
import tarfile

import pytest
from signed_bundles import make_bundle

from configs.canonical import canonical_json, digest_bytes
from configs.errors import SlipwayError
from delivery.clients.bundles.base_image import put_on_base
from delivery.clients.bundles.images import read_bundle, unpack_adapter
from delivery.clients.bundles.layout import index_digest, verify


def make_base(folder, text=b"#!/bin/sh\n"):
    """An OCI image layout of one image with one file, /bin/sh."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content, media_type):
        (blobs / digest_bytes(content)[7:]).write_bytes(content)
        return {"mediaType": media_type, "digest": digest_bytes(content), "size": len(content)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        info = tarfile.TarInfo("bin/sh")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    entry = put(layer.getvalue(), "application/vnd.oci.image.layer.v1.tar")
    config = {"architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "config": {"Cmd": ["sh"]}}
    config["rootfs"] = {"type": "layers", "diff_ids": [entry["digest"]]}
    described = put(canonical_json(config), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": described}
    image = put(canonical_json(manifest | {"layers": [entry]}), "application/vnd.oci.image.manifest.v1+json")
    (folder / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": [image]}))
    return folder


def read(layout, digest):
    return json.loads((layout / "blobs/sha256" / digest[7:]).read_bytes())


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_the_image_on_the_base_comes_first_and_ends_with_the_bundles_layers(tmp_path, home):
    bundle, layout = make_bundle(home)
    before = json.loads((layout / "index.json").read_bytes())["manifests"]
    put_on_base(bundle, home, make_base(tmp_path / "base"))
    based, *rest = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert rest == before
    manifest, plain = read(layout, based["digest"]), read(layout, before[0]["digest"])
    assert manifest["layers"][1:] == plain["layers"]
    config = read(layout, manifest["config"]["digest"])
    assert config["config"]["Cmd"] == ["sh"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert manifest["annotations"]["io.slipway.base-model.name"] == "base"
    assert read_bundle(home, bundle.digest) == bundle
    assert unpack_adapter(bundle, home).is_dir()


def test_it_is_the_same_wherever_and_however_often_it_is_made(tmp_path, home):
    bundle, layout = make_bundle(home)
    plain, base = index_digest(layout), make_base(tmp_path / "base")
    digests = {index_digest(put_on_base(bundle, home, base)) for _ in range(2)}
    make_bundle(tmp_path / "other" / "home")
    digests.add(index_digest(put_on_base(bundle, tmp_path / "other" / "home", make_base(tmp_path / "base2"))))
    assert len(digests) == 1
    assert plain not in digests


def test_another_base_takes_the_place_of_the_first_and_leaves_nothing_of_it(tmp_path, home):
    bundle, layout = make_bundle(home)
    put_on_base(bundle, home, make_base(tmp_path / "one"))
    put_on_base(bundle, home, make_base(tmp_path / "two", b"#!/bin/dash\n"))
    assert len(json.loads((layout / "index.json").read_bytes())["manifests"]) == 3
    assert verify(layout) == bundle  # it would name a blob that does not belong there


@pytest.mark.parametrize("what", ["no index", "no blob", "no digest", "another blob"])
def test_a_base_that_cannot_be_used_is_named(tmp_path, home, what):
    bundle, layout = make_bundle(home)
    before, base = index_digest(layout), make_base(tmp_path / "base")
    blobs = sorted((base / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    if what == "no index":
        (base / "index.json").unlink()
    elif what == "no digest":
        (base / "index.json").write_text('{"manifests": [{"mediaType": "x", "digest": "../../x", "size": 1}]}')
    elif what == "no blob":
        blobs[-1].unlink()
    else:
        blobs[-1].write_bytes(b"other")
    with pytest.raises(SlipwayError, match="the base image cannot be used"):
        put_on_base(bundle, home, base)
    assert index_digest(layout) == before
