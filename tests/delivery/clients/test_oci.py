"""A bundle as an image: always the same, and not a byte of it can change unnoticed."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy
import pytest
from places import ROOT
from safetensors.numpy import save_file

from configs.canonical import canonical_json, digest_bytes, short
from configs.errors import SlipwayError
from delivery.build.bundle import Bundle, Merged
from delivery.build.documents.origin import DocumentBasis
from delivery.build.documents.written import documents
from delivery.clients.bundles import adapters as adapter_store
from delivery.clients.bundles import images as oci
from delivery.clients.bundles import layout as oci_layout
from delivery.clients.bundles.safetensors_header import read_shapes
from delivery.clients.fresh_folder import discard

ORIGIN = DocumentBasis(builder="0.1.0", base_source="base")


def make_adapter(folder: Path, value: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "rank_pattern": {"q": 6}}))
    save_file({"lora_A": numpy.full((4, 3), value, numpy.float32)}, folder / "adapter_model.safetensors")
    return folder


def make_bundle(adapter_folder: Path | None, **changes) -> Bundle:
    fields = {
        "route": "tutor",
        "base_model": "base",
        "base_revision": "sha256:b",
        "adapter": adapter_store.describe(adapter_folder) if adapter_folder else None,
        "dataset_version": "sha256:d",
        "dataset_code": "sha256:c",
        "training": {"learning_rate": 0.0005, "seed": 17},
        "system_prompt": "Ask one question – nothing else.",
        "temperature": 0.0,
        "max_tokens": 96,
    }
    return Bundle(**(fields | changes))


@pytest.fixture
def adapter(tmp_path):
    return make_adapter(tmp_path / "trained")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_what_is_written_is_read_back(adapter, home):
    bundle = make_bundle(adapter)
    oci.write_bundle(bundle, adapter, home)
    assert oci.read_bundle(home, bundle.digest) == bundle
    assert bundle.adapter.rank == 6


def test_the_same_bundle_gives_the_same_image_wherever_and_whenever(adapter, tmp_path):
    bundle = make_bundle(adapter)
    digests = {oci_layout.image_digest(oci.write_bundle(bundle, adapter, tmp_path / name)) for name in "ab"}
    assert len(digests) == 1
    other = make_bundle(adapter, system_prompt="Another.")
    assert oci_layout.image_digest(oci.write_bundle(other, adapter, tmp_path / "a")) not in digests


def test_the_layout_is_what_the_oci_format_asks_for(adapter, home):
    bundle = make_bundle(adapter)
    folder = oci.write_bundle(bundle, adapter, home)
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    entry = json.loads((folder / "index.json").read_bytes())["manifests"][0]
    manifest = json.loads((folder / "blobs/sha256" / entry["digest"][7:]).read_bytes())
    config = json.loads((folder / "blobs/sha256" / manifest["config"]["digest"][7:]).read_bytes())
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"] for layer in manifest["layers"]]}
    assert entry["annotations"]["io.slipway.bundle.digest"] == bundle.digest
    assert entry["annotations"]["io.slipway.base-model.name"] == "base"
    assert entry["annotations"]["io.slipway.base-model.revision"] == "sha256:b"
    members = []
    for layer in manifest["layers"]:
        with tarfile.open(folder / "blobs/sha256" / layer["digest"][7:]) as tar:
            members += tar.getmembers()
    assert [m.name for m in members] == [
        "models",
        "models/adapter_model.safetensors",
        "models",
        "models/adapter_config.json",
        "models/bundle.json",
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_the_model_pack_names_the_same_layers_by_what_is_in_them(adapter, home):
    folder = oci.write_bundle(make_bundle(adapter), adapter, home)
    image, pack = json.loads((folder / "index.json").read_bytes())["manifests"]
    as_image, as_pack = (json.loads((folder / "blobs/sha256" / e["digest"][7:]).read_bytes()) for e in (image, pack))
    assert pack["artifactType"] == as_pack["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert pack["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert as_pack["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert [layer["mediaType"] for layer in as_pack["layers"]] == [
        "application/vnd.cncf.model.weight.v1.tar",
        "application/vnd.cncf.model.weight.config.v1.tar",
    ]
    assert [layer["digest"] for layer in as_pack["layers"]] == [layer["digest"] for layer in as_image["layers"]]
    config = json.loads((folder / "blobs/sha256" / as_pack["config"]["digest"][7:]).read_bytes())
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in as_image["layers"]]}
    assert config["config"] == {"format": "safetensors"}
    assert config["descriptor"]["description"] == "LoRA of rank 6, for base at sha256:b"


def test_two_bundles_with_one_adapter_share_the_layer_of_its_weights(adapter, home):
    one, two = make_bundle(adapter), make_bundle(adapter, system_prompt="Another.")
    weights = {blobs(oci.write_bundle(bundle, adapter, home))["layer"].name for bundle in (one, two)}
    assert len(weights) == 1


IN_ANOTHER_PLACE = """
import os, sys, time, locale
from pathlib import Path
os.umask(int(sys.argv[3], 8))
locale.setlocale(locale.LC_ALL, sys.argv[4])
from delivery.build.bundle import Bundle, Merged
from delivery.clients.bundles import images, layout
source = Path(sys.argv[1])
for path in source.iterdir():
    os.utime(path, (int(sys.argv[5]), int(sys.argv[5])))
bundle = Bundle.model_validate_json(os.environ["BUNDLE"])
print(layout.index_digest(images.write_bundle(bundle, source, Path(sys.argv[2]))))
"""


def test_umask_time_locale_and_zone_leave_no_trace_in_the_bytes(adapter, tmp_path):
    bundle = make_bundle(adapter)
    places = (("022", "C", "1000000000", "UTC"), ("077", "C.UTF-8", "1700000000", "Asia/Tokyo"))
    digests = [
        subprocess.run(
            [
                sys.executable,
                "-c",
                IN_ANOTHER_PLACE,
                adapter,
                tmp_path / zone.replace("/", "-"),
                umask,
                language,
                mtime,
            ],
            env={**os.environ, "TZ": zone, "BUNDLE": bundle.model_dump_json(), "PYTHONHASHSEED": mtime},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for umask, language, mtime, zone in places
    ]
    assert digests[0] == digests[1] == oci_layout.index_digest(oci.write_bundle(bundle, adapter, tmp_path)) + "\n"


def test_writing_again_changes_nothing(adapter, home):
    bundle = make_bundle(adapter)
    folder = oci.write_bundle(bundle, adapter, home)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert oci.write_bundle(bundle, adapter, home) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in (home / "bundles").iterdir()] == [folder.name]


def test_the_base_model_is_a_bundle_without_adapter(home):
    base = make_bundle(None, training=None)
    oci.write_bundle(base, None, home)
    assert oci.read_bundle(home, base.variant_name) == base
    with pytest.raises(SlipwayError, match="has no adapter"):
        oci.unpack_adapter(base, home)


def test_a_bundle_is_found_by_digest_prefix_or_variant_name(adapter, home):
    bundle = make_bundle(adapter)
    oci.write_bundle(bundle, adapter, home)
    for reference in (bundle.digest, bundle.digest[7:], short(bundle.digest, 5), bundle.variant_name):
        assert oci.read_bundle(home, reference) == bundle


@pytest.mark.parametrize("reference", ["", "zz", "sha256:"])
def test_an_unknown_reference_lists_what_is_known(adapter, home, reference):
    bundle = make_bundle(adapter)
    oci.write_bundle(bundle, adapter, home)
    with pytest.raises(SlipwayError, match=f"is no bundle(.|\n)*known: {short(bundle.digest)}"):
        oci.read_bundle(home, reference)


def test_a_whole_digest_must_fit_to_its_end(adapter, home):
    bundle = make_bundle(adapter)
    oci.write_bundle(bundle, adapter, home)
    with pytest.raises(SlipwayError, match="is no bundle"):
        oci.read_bundle(home, bundle.digest[:-1] + ("0" if bundle.digest[-1] != "0" else "1"))


def test_an_ambiguous_reference_lists_those_it_fits(home):
    bundles = [make_bundle(None, max_tokens=n) for n in range(1, 18)]  # 17 digests, 16 first digits
    for bundle in bundles:
        oci.write_bundle(bundle, None, home)
    firsts = [bundle.digest[7] for bundle in bundles]
    twice = next(digit for digit in firsts if firsts.count(digit) > 1)
    with pytest.raises(SlipwayError, match="fits several bundles") as caught:
        oci.read_bundle(home, twice)
    assert all(short(b.digest) in caught.value.cure for b in bundles if b.digest[7] == twice)
    assert len(oci.list_bundles(home)) == 17


def test_without_any_bundle_the_error_says_so(home):
    assert oci.list_bundles(home) == []
    with pytest.raises(SlipwayError, match="known: none"):
        oci.read_bundle(home, "ab")


def test_an_adapter_that_is_not_the_bundles_is_refused(adapter, home, tmp_path):
    bundle, other = make_bundle(adapter), make_adapter(tmp_path / "other", value=2.0)
    with pytest.raises(SlipwayError, match="is not the bundle's adapter"):
        oci.write_bundle(bundle, other, home)
    with pytest.raises(SlipwayError, match="needs the adapter's folder"):
        oci.write_bundle(bundle, None, home)
    assert not (home / "bundles").exists() or not list((home / "bundles").iterdir())


def test_an_adapter_is_unpacked_under_its_digest_read_only_and_healed_when_damaged(adapter, home):
    bundle = make_bundle(adapter)
    oci.write_bundle(bundle, adapter, home)
    place = oci.unpack_adapter(bundle, home)
    assert place == home / "adapters" / short(bundle.adapter.digest)
    assert {path.name for path in place.iterdir()} == set(adapter_store.FILES)
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o444}
    tamper(place / "adapter_model.safetensors")
    assert oci.unpack_adapter(bundle, home) == place
    assert adapter_store.problems_of(bundle.adapter, place) == []
    assert [path.name for path in (home / "adapters").iterdir()] == [place.name]


def tamper(path: Path, content: bytes | None = None) -> None:
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content if content is not None else data[:-1] + bytes([data[-1] ^ 1]))


def blobs(folder: Path) -> dict[str, Path]:
    entry = json.loads((folder / "index.json").read_bytes())["manifests"][0]
    manifest = json.loads((folder / "blobs/sha256" / entry["digest"][7:]).read_bytes())
    digests = {"manifest": entry, "config": manifest["config"], "layer": manifest["layers"][0]}
    return {name: folder / "blobs/sha256" / descriptor["digest"][7:] for name, descriptor in digests.items()}


@pytest.mark.parametrize("hop", ["manifest", "config", "layer"])
@pytest.mark.parametrize("how", ["one bit", "cut short", "gone"])
def test_a_changed_blob_is_named(adapter, home, hop, how):
    bundle = make_bundle(adapter)
    path = blobs(oci.write_bundle(bundle, adapter, home))[hop]
    if how == "gone":
        path.unlink()
    else:
        tamper(path, path.read_bytes()[:-10] if how == "cut short" else None)
    with pytest.raises(SlipwayError, match="a bundle is damaged") as caught:
        oci.read_bundle(home, bundle.digest)
    assert caught.value.where == str(path)
    assert oci.list_bundles(home) == []
    assert oci.damaged_bundles(home)[0].where == str(path)
    oci.write_bundle(bundle, adapter, home)  # writing again heals it
    assert oci.read_bundle(home, bundle.digest) == bundle


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("oci-layout", b"{}"),
        ("index.json", b"{}"),
        ("index.json", b"not json"),
        ("index.json", b'{"manifests":[{"digest":"sha256:../../../../etc/passwd","size":1}]}'),
    ],
)
def test_a_changed_entrance_is_named(adapter, home, name, content):
    bundle = make_bundle(adapter)
    path = oci.write_bundle(bundle, adapter, home) / name
    tamper(path, content)
    with pytest.raises(SlipwayError) as caught:
        oci.read_bundle(home, bundle.digest)
    assert caught.value.where == str(path)


def forge(folder: Path, change_layer=lambda files: None) -> None:
    """The same bundle as older versions wrote it, one image of one layer, of which every digest above it fits."""
    old = blobs(folder)
    config, manifest = (json.loads(old[name].read_bytes()) for name in ("config", "manifest"))
    files = {}
    for layer in manifest["layers"]:
        with tarfile.open(folder / "blobs/sha256" / layer["digest"][7:]) as tar:
            files |= {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}
    change_layer(files)
    entry = json.loads((folder / "index.json").read_bytes())["manifests"][0]
    for path in (folder / "blobs/sha256").iterdir():
        path.unlink()
    forged = folder / "layer"
    with tarfile.open(forged, "w") as tar:
        for name, content in sorted(files.items()):
            member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content) if isinstance(content, bytes) else 0
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    layer = {"mediaType": oci_layout.LAYER, "digest": adapter_store.file_digest(forged), "size": forged.stat().st_size}
    forged.rename(folder / "blobs/sha256" / layer["digest"][7:])
    config["rootfs"]["diff_ids"] = [layer["digest"]]
    manifest["config"] |= put(folder, config)
    manifest["layers"] = [layer]
    entry |= put(folder, manifest)
    index = {"schemaVersion": 2, "mediaType": oci_layout.INDEX, "manifests": [entry]}
    tamper(folder / "index.json", canonical_json(index))


def put(folder: Path, value) -> dict[str, object]:
    content = canonical_json(value)
    (folder / "blobs/sha256" / digest_bytes(content)[7:]).write_bytes(content)
    return {"digest": digest_bytes(content), "size": len(content)}


def other_weights(files):
    name = "models/adapter_model.safetensors"
    files[name] = files[name][:-1] + b"\x00"


def other_prompt(files):
    files["models/bundle.json"] = files["models/bundle.json"].replace(b"one question", b"no question!")


def other_adapter_digest(files):
    bundle = json.loads(files["models/bundle.json"])
    bundle["adapter"]["digest"] = "sha256:" + "0" * 64
    files["models/bundle.json"] = canonical_json(bundle)


def a_pickle(files):
    files["models/adapter_model.bin"] = b"\x80\x04."


def a_way_out(files):
    files["models/../../evil"] = b"x"


def no_bundle(files):
    del files["models/bundle.json"]


def a_link(files):
    link = tarfile.TarInfo("models/adapter_config.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    files["models/adapter_config.json"] = link


def a_hole(files):
    sparse = tarfile.TarInfo("models/adapter_config.json")
    sparse.type = tarfile.GNUTYPE_SPARSE
    files["models/adapter_config.json"] = sparse


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (other_weights, "not those that bundle.json names"),
        (other_prompt, "the image holds"),
        (other_adapter_digest, "do not make up adapter"),
        (a_pickle, "adapter_model.bin does not belong"),
        (a_way_out, "does not belong into a bundle"),
        (no_bundle, "bundle.json is not a bundle"),
        (a_link, "adapter_config.json does not belong"),
        (a_hole, "adapter_config.json does not belong|not a tar file"),
    ],
)
def test_a_forged_image_whose_digests_all_fit_is_still_found_out(adapter, home, change, word):
    bundle = make_bundle(adapter)
    folder = oci.write_bundle(bundle, adapter, home)
    forge(folder, change)
    with pytest.raises(SlipwayError, match=word):
        oci.read_bundle(home, bundle.digest)
    with pytest.raises(SlipwayError, match=word):
        oci.unpack_adapter(bundle, home)


def test_a_bundle_that_an_older_version_wrote_is_read(adapter, home):
    bundle = make_bundle(adapter)
    folder = oci.write_bundle(bundle, adapter, home)
    forge(folder)
    assert oci.read_bundle(home, bundle.digest) == bundle
    assert adapter_store.problems_of(bundle.adapter, oci.unpack_adapter(bundle, home)) == []
    assert [path.name for path in (home / "bundles").iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["evil.pkl", "blobs/sha256/abc", "blobs/md5", "other/x"])
def test_what_does_not_belong_into_the_folder_is_named(adapter, home, name):
    bundle = make_bundle(adapter)
    path = oci.write_bundle(bundle, adapter, home) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(SlipwayError, match="it does not belong into a bundle"):
        oci.read_bundle(home, bundle.digest)


@pytest.mark.parametrize("which", ["index.json", "manifest", "config", "layer"])
def test_a_link_is_refused_although_what_it_leads_to_is_right(adapter, home, tmp_path, which):
    bundle = make_bundle(adapter)
    folder = oci.write_bundle(bundle, adapter, home)
    path = blobs(folder).get(which, folder / which)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SlipwayError, match="it is a link"):
        oci.read_bundle(home, bundle.digest)


def test_a_model_pack_of_other_layers_is_found_out(adapter, home, tmp_path):
    bundle = make_bundle(adapter)
    folder = oci.write_bundle(bundle, adapter, home)
    index = json.loads((folder / "index.json").read_bytes())
    entry = index["manifests"][1]
    pack = json.loads((folder / "blobs/sha256" / entry["digest"][7:]).read_bytes())
    pack["layers"] = [{"mediaType": "application/vnd.cncf.model.weight.v1.tar", **put(folder, "other weights")}]
    entry |= put(folder, pack)
    tamper(folder / "index.json", canonical_json(index))
    with pytest.raises(SlipwayError, match="its layers are not those of the bundle's image"):
        oci.read_bundle(home, bundle.digest)


def test_an_adapter_folder_whose_file_is_a_link_is_not_whole(adapter, tmp_path):
    whole = adapter_store.describe(adapter)
    (adapter / "adapter_config.json").rename(tmp_path / "elsewhere")
    (adapter / "adapter_config.json").symlink_to(tmp_path / "elsewhere")
    assert [problem.what for problem in adapter_store.problems_of(whole, adapter)] == ["it is a link, not a file"]


def test_another_whole_bundle_in_its_place_is_found_out(adapter, home):
    bundle, other = make_bundle(adapter), make_bundle(adapter, max_tokens=5)
    folder, stranger = oci.write_bundle(bundle, adapter, home), oci.write_bundle(other, adapter, home)
    discard(folder)
    stranger.rename(folder)
    with pytest.raises(SlipwayError, match="the folder's name says otherwise"):
        oci.read_bundle(home, bundle.digest)


def test_a_folder_with_pickled_weights_is_no_adapter(adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(SlipwayError, match="weights as pickle"):
        adapter_store.describe(adapter)


def test_tensor_names_and_shapes_are_read_without_torch(adapter):
    assert read_shapes(adapter / "adapter_model.safetensors") == {"lora_A": (4, 3)}


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{]", b"\x02\0\0\0\0\0\0\0[]"])
def test_what_is_no_safetensors_file_is_said_plainly(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(SlipwayError, match="no whole safetensors file"):
        read_shapes(tmp_path / "x.safetensors")


def test_a_safetensors_file_cut_short_is_refused(adapter):
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SlipwayError, match="no whole safetensors file"):
        read_shapes(path)


def test_documents_lie_in_a_layer_of_their_own_beside_the_adapter(adapter, home):
    bundle = make_bundle(adapter)
    plain = oci_layout.image_digest(oci.write_bundle(bundle, adapter, home / "plain"))
    folder = oci.write_bundle(bundle, adapter, home, documents(bundle, ORIGIN))
    assert oci.read_documents(home, bundle.digest) == (folder, documents(bundle, ORIGIN))
    assert oci.read_bundle(home, bundle.digest) == bundle  # documents change no identity
    assert oci_layout.image_digest(folder) != plain
    assert {path.name for path in oci.unpack_adapter(bundle, home).iterdir()} == set(adapter_store.FILES)


def test_a_bundle_without_documents_is_read_as_ever(adapter, home):
    bundle = make_bundle(adapter)
    oci.write_bundle(bundle, adapter, home)
    assert oci.read_documents(home, bundle.digest)[1] == {}


def test_documents_of_another_bundle_are_refused_when_written_and_when_read(adapter, home):
    bundle, other = make_bundle(adapter), make_bundle(adapter, max_tokens=5)
    with pytest.raises(SlipwayError, match="it speaks of bundle"):
        oci.write_bundle(bundle, adapter, home, documents(other, ORIGIN))
    assert oci.list_bundles(home) == []


def test_a_flipped_byte_in_a_document_is_found_out(adapter, home):
    bundle = make_bundle(adapter)
    folder = oci.write_bundle(bundle, adapter, home, documents(bundle, ORIGIN))
    layer = max((folder / "blobs/sha256").iterdir(), key=lambda path: b"README.md" in path.read_bytes())
    tamper(layer)
    with pytest.raises(SlipwayError, match="its content has digest") as caught:
        oci.read_bundle(home, bundle.digest)
    assert caught.value.where == str(layer)


def test_a_merged_model_is_a_bundle_whose_files_are_checked_like_an_adapters(adapter, home, tmp_path):
    folder = tmp_path / "merged"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(name.encode())
    files = {path.name: adapter_store.file_digest(path) for path in folder.iterdir()}
    whole = Merged(digest=adapter_store.digest_of_files(files), files=files)
    bundle = make_bundle(None, merged=whole, parent=make_bundle(adapter).digest)
    place = oci.write_bundle(bundle, folder, home, documents(bundle, ORIGIN))
    assert oci.read_bundle(home, f"merged-{short(bundle.digest)}") == bundle
    assert list(oci_layout.adapter_files(place)) == []
    with pytest.raises(SlipwayError, match="is a merged model and has no adapter"):
        oci.unpack_adapter(bundle, home)
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(SlipwayError, match="is not the bundle's adapter"):
        oci.write_bundle(bundle, folder, home / "other")


def test_a_file_of_a_merged_model_does_not_belong_beside_an_adapter(adapter, home):
    bundle = make_bundle(adapter)
    folder = oci.write_bundle(bundle, adapter, home)
    forge(folder, lambda files: files.update({"models/config.json": b"{}"}))
    with pytest.raises(SlipwayError, match=r"not those that bundle\.json names"):
        oci.read_bundle(home, bundle.digest)
