"""Bundles between the state folder and a registry, and the two hops at which a wrong one is refused: pull and load."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from evil_bundles import RESEALED, resealed, with_signatures_of
from places import ROOT
from signed_bundles import AT, DAY, certificate_owner, key_owner, make_bundle, required, sign_layout
from stub_registry import stub_registry

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.project import load_project
from configs.registry import RegistryConfig, Signatures
from delivery.clients.bundles import layout as oci_layout
from delivery.clients.bundles.images import list_bundles, read_bundle
from delivery.clients.registry.verify import signatures_in
from delivery.release.state import Served
from tasks.release.bundle import base_bundle
from tasks.release.published import pull_bundle, push_bundle, require_signable, sign_bundle, verify_bundle
from tasks.release.site import served_as
from tasks.release.start import _require_signed_when_released
from tasks.serving.local import LocalProcesses


@pytest.fixture
def registry():
    with stub_registry() as found:
        yield found


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def there(tmp_path):
    return tmp_path / "there"


def environment_of(registry, policy=None, path="team/adapters"):
    where = RegistryConfig(repository=f"{registry.address}/{path}", plain_http=True, timeout_s=5)
    return Environment(registry=where, signatures=policy or Signatures())


def signing_with(policy: Signatures, owner) -> Signatures:
    return policy.model_copy(update={"sign_with": owner.key})


def test_a_push_without_a_reference_goes_where_the_environment_says_and_signs(registry, home, there, tmp_path):
    ada = key_owner(tmp_path)
    environment = environment_of(registry, signing_with(required(ada=ada), ada))
    bundle, _ = make_bundle(home)
    for _ in range(2):
        pushed = push_bundle(environment, home, bundle.digest, None)
        assert pushed.signatures == 1  # signing again would give another signature of the same
    assert pushed.reference.tag == bundle.variant_name
    tag = f"{registry.address}/team/adapters:{bundle.variant_name}"
    said = []
    found = pull_bundle(environment, there, tag, AT, lambda done, total, text: said.append(text))
    assert said[0] == f"{tag} is {pushed.reference.digest}"
    assert (found.bundle, found.signed_by) == (bundle, ("ada",))


def test_a_reference_is_verified_and_not_kept(registry, home, there, tmp_path):
    ada = key_owner(tmp_path)
    environment = environment_of(registry, signing_with(required(ada=ada), ada))
    bundle, _ = make_bundle(home)
    reference = str(push_bundle(environment, home, bundle.digest, None).reference)
    found = verify_bundle(environment, there, reference, AT)
    assert (found.bundle, found.signed_by, found.digest) == (bundle, ("ada",), reference.partition("@")[2])
    assert list(there.iterdir()) == []
    assert verify_bundle(environment, home, bundle.variant_name, AT).digest == found.digest


def test_what_is_missing_for_a_push_or_a_signature_is_said(registry, home):
    bundle, _ = make_bundle(home)
    with pytest.raises(SlipwayError, match="no registry to push to is named"):
        push_bundle(Environment(), home, bundle.digest, None)
    with pytest.raises(SlipwayError, match="no key to sign with is named"):
        sign_bundle(Environment(), home, bundle.digest)
    with pytest.raises(SlipwayError, match="has the digest that it has"):
        push_bundle(Environment(), home, bundle.digest, f"{registry.address}/x@sha256:{'0' * 64}")


def test_what_is_built_is_signed_where_a_key_is_named(home, tmp_path):
    ada = key_owner(tmp_path)
    project = load_project(ROOT / "configs" / "tutor")
    project = replace(project, environment=Environment(signatures=signing_with(Signatures(), ada)))
    bundle = base_bundle(project, "sha256:r", home)
    found = verify_bundle(Environment(signatures=required(ada=ada)), home, bundle.digest, AT)
    assert found.signed_by == ("ada",)


def test_a_refresh_whose_bundle_could_not_be_released_is_refused_before_it_trains(tmp_path):
    ada, bob = key_owner(tmp_path), key_owner(tmp_path, "bob")
    require_signable(Environment(), "tutor", AT)
    require_signable(Environment(signatures=signing_with(required(bob=bob, ada=ada), ada)), "tutor", AT)
    for policy, word in (
        (required(ada=ada), "no key to sign with is named"),
        (signing_with(required(ada=ada), bob), "does not count for route tutor"),
        (signing_with(required(ada=key_owner(tmp_path, routes=("classify",))), ada), "does not count for route tutor"),
    ):
        with pytest.raises(SlipwayError, match=word):
            require_signable(Environment(signatures=policy), "tutor", AT)


# -- before vLLM loads --------------------------------------------------------------------------------------------


def site_of(home, policy, now=AT, releases=()):
    environment = Environment(signatures=policy)
    return SimpleNamespace(
        environment=environment,
        name=environment.name,
        home=home,
        upstreams=("http://127.0.0.1:8100",),
        target=LocalProcesses(environment, home),
        clock=lambda: now,
        ledger=SimpleNamespace(releases=lambda name, route: list(releases)),
    )


def test_a_signed_bundle_is_loaded_and_one_that_nobody_signed_is_not(home, tmp_path):
    ada = key_owner(tmp_path)
    bundle, layout = make_bundle(home)
    assert served_as(bundle, site_of(home, Signatures())).adapter_path
    with pytest.raises(SlipwayError, match="no signature that counts"):
        served_as(bundle, site_of(home, required(ada=ada)))
    sign_layout(layout, ada)
    assert served_as(bundle, site_of(home, required(ada=ada))).adapter_path.startswith(str(home / "adapters"))


def refused_everywhere(registry, home, there, policy, word, now=AT, path="x"):
    """Pushed as it lies there, by somebody who does not care, it is refused by the pull; and here by the load."""
    (layout,) = (home / "bundles").glob("[0-9a-f]*")
    index = (layout / "index.json").read_bytes()
    digest = oci_layout.index_digest(layout)
    kept = {f"sha256:{blob.name}": blob.read_bytes() for blob in (layout / "blobs/sha256").iterdir()}
    registry.blobs[path] = kept
    types = {entry["digest"]: entry["mediaType"] for entry in json.loads(index)["manifests"]}
    registry.manifests[path] = {one: (kind, kept[one]) for one, kind in types.items() if one in kept}
    registry.manifests[path][digest] = ("application/vnd.oci.image.index.v1+json", index)
    environment = environment_of(registry, policy)
    with pytest.raises(SlipwayError, match=word):
        pull_with_signatures(registry, environment, there, f"{registry.address}/{path}@{digest}", layout, now)
    assert list_bundles(there) == []
    bundle = tiny_bundle("Ask.", read_adapter(home))
    with pytest.raises(SlipwayError, match=word):
        served_as(bundle, site_of(home, policy, now))


def read_adapter(home):
    from delivery.clients.bundles.adapters import describe

    write_tiny_lora(home.parent / "again", 1)
    return describe(home.parent / "again")


def pull_with_signatures(registry, environment, there, reference, layout, now):
    """The layout's signatures are attached by hand: a push would refuse what is wrong with the rest."""
    from delivery.clients.registry.attached import attach
    from delivery.clients.registry.reference import parse
    from delivery.clients.registry.wire import Wire

    wire = Wire(registry.address, environment.registry, environ={})
    for signature in signatures_in(layout).values():
        attach(wire, parse(reference), (layout / "index.json").read_bytes(), signature)
    pull_bundle(environment, there, reference, now)


@pytest.mark.parametrize("kind", RESEALED)
def test_a_layer_with_something_evil_is_refused_at_every_hop_whoever_signed_it(registry, home, there, tmp_path, kind):
    ada = key_owner(tmp_path)
    _, word = resealed(home, kind, ada)
    refused_everywhere(registry, home, there, required(ada=ada), word)


def test_another_key_is_refused_at_every_hop(registry, home, there, tmp_path):
    _, layout = make_bundle(home)
    sign_layout(layout, key_owner(tmp_path, "stranger"))
    refused_everywhere(registry, home, there, required(ada=key_owner(tmp_path)), "Key mismatch")


def test_an_expired_certificate_is_refused_at_every_hop(registry, home, there, tmp_path):
    owner = certificate_owner(tmp_path)
    _, layout = make_bundle(home)
    sign_layout(layout, owner)
    later = AT + 2 * DAY.total_seconds()
    refused_everywhere(registry, home, there, required(release=owner), "expired on", now=later)


def test_a_signature_of_another_bundle_is_refused_at_every_hop(registry, home, there, tmp_path):
    ada = key_owner(tmp_path)
    _, other = make_bundle(tmp_path / "other" / "home", prompt="Another.")
    sign_layout(other, ada)
    _, layout = make_bundle(home)
    with_signatures_of(layout, other)
    refused_everywhere(registry, home, there, required(ada=ada), "it is a signature of sha256:")


@pytest.mark.parametrize("which", ["manifest", "weights", "settings"])
@pytest.mark.parametrize("how", ["one bit", "swapped"])
def test_a_flipped_byte_and_a_swapped_blob_are_refused_at_every_hop(registry, home, there, tmp_path, which, how):
    ada = key_owner(tmp_path)
    _, layout = make_bundle(home)
    sign_layout(layout, ada)
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    manifest = json.loads((layout / "blobs/sha256" / entry["digest"][7:]).read_bytes())
    weights, settings = manifest["layers"]
    target = (
        layout / "blobs/sha256" / {"manifest": entry, "weights": weights, "settings": settings}[which]["digest"][7:]
    )
    content = target.read_bytes()
    if how == "swapped":
        _, other = make_bundle(tmp_path / "other" / "home", prompt="Evil", number=2)
        theirs = json.loads((other / "index.json").read_bytes())["manifests"][0]
        parts = json.loads((other / "blobs/sha256" / theirs["digest"][7:]).read_bytes())["layers"]
        there_is = {"manifest": theirs, "weights": parts[0], "settings": parts[1]}[which]
        content = (other / "blobs/sha256" / there_is["digest"][7:]).read_bytes()
    else:
        content = content[:-1] + bytes([content[-1] ^ 1])
    target.chmod(0o644)
    target.write_bytes(content)
    refused_everywhere(registry, home, there, required(ada=ada), "something else|is damaged|broke off")


def test_a_link_in_the_folder_is_refused_before_it_is_loaded(home, tmp_path):
    ada = key_owner(tmp_path)
    bundle, layout = make_bundle(home)
    sign_layout(layout, ada)
    (layout / "index.json").rename(tmp_path / "elsewhere")
    (layout / "index.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SlipwayError, match="it is a link"):
        served_as(bundle, site_of(home, required(ada=ada)))


# -- what is live comes back after a restart ----------------------------------------------------------------------


def live_of(bundle, site) -> Served:
    return served_as(bundle, site)


def test_what_is_live_comes_back_although_its_certificate_has_expired_since(home, tmp_path):
    owner = certificate_owner(tmp_path)
    bundle, layout = make_bundle(home)
    sign_layout(layout, owner)
    live = live_of(bundle, site_of(home, required(release=owner)))
    later = AT + 30 * DAY.total_seconds()
    released = [{"bundle": bundle.digest, "started_at": AT}]
    _require_signed_when_released(site_of(home, required(release=owner), later, released), "tutor", live)
    with pytest.raises(SlipwayError, match="expired on"):
        _require_signed_when_released(site_of(home, required(release=owner), later), "tutor", live)


def test_what_is_live_and_was_tampered_with_is_healed_or_refused(home, tmp_path):
    ada = key_owner(tmp_path)
    bundle, layout = make_bundle(home)
    sign_layout(layout, ada)
    site = site_of(home, required(ada=ada))
    live = live_of(bundle, site)
    weights = next((home / "adapters").rglob("adapter_model.safetensors"))
    content = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(content[:-1] + b"\xff")
    _require_signed_when_released(site, "tutor", live)
    assert next((home / "adapters").rglob("adapter_model.safetensors")).read_bytes() == content
    shutil.rmtree(layout / "signatures")
    with pytest.raises(SlipwayError, match="no signature that counts"):
        _require_signed_when_released(site, "tutor", live)
    assert read_bundle(home, bundle.digest) == bundle
