"""Who signed a bundle, whether they may, and everything that is no signature of it."""

import base64
import json
import shutil
from dataclasses import replace

import pytest
from signed_bundles import AT, DAY, certificate_owner, key_owner, make_bundle, required, sign_layout

from configs.errors import SlipwayError
from configs.registry import Signatures, Signer, SigningKey
from delivery.clients.registry.signatures import sign, signing_key
from delivery.clients.registry.verify import verify


@pytest.fixture
def layout(tmp_path):
    return make_bundle(tmp_path / "home")[1]


def test_a_bundle_that_somebody_signed_who_may_is_verified(tmp_path, layout):
    owner = key_owner(tmp_path)
    sign_layout(layout, owner)
    found = verify(layout, None, required(ada=owner, bob=key_owner(tmp_path, "bob")), AT)
    assert found.signed_by == ("ada",)
    assert found.bundle.route == "tutor"


def test_a_certificate_of_the_authority_in_one_of_the_names_counts(tmp_path, layout):
    owner = certificate_owner(tmp_path)
    sign_layout(layout, owner)
    assert verify(layout, None, required(release=owner), AT).signed_by == ("release",)


def test_a_certificate_that_another_one_stands_between_counts_with_its_chain_and_only_then(tmp_path, layout):
    owner = certificate_owner(tmp_path, between=True)
    sign_layout(layout, owner)
    assert verify(layout, None, required(release=owner), AT).signed_by == ("release",)
    shutil.rmtree(layout / "signatures")
    alone = owner.key.model_copy(update={"chain": ()})
    sign_layout(layout, replace(owner, key=alone))
    refused(layout, required(release=owner), word="does not verify")


def test_without_a_policy_nothing_is_asked(layout):
    assert verify(layout, None, Signatures(), AT).signed_by == ()


def refused(layout, policy, now=AT, word=""):
    with pytest.raises(SlipwayError, match="has no signature that counts") as caught:
        verify(layout, None, policy, now)
    whys = [problem.what for problem in caught.value.problems]
    assert any(word in why for why in whys), whys
    return caught.value


def test_one_that_nobody_signed_is_refused_with_the_names_of_those_who_may(tmp_path, layout):
    error = refused(layout, required(ada=key_owner(tmp_path)), word="it has no signature at all")
    assert "ada" in error.cure


def test_another_key_is_refused(tmp_path, layout):
    sign_layout(layout, key_owner(tmp_path, "stranger"))
    refused(layout, required(ada=key_owner(tmp_path)), word="Key mismatch")


def test_a_key_does_not_stand_for_a_certificate_nor_the_other_way_round(tmp_path, layout):
    by_key, by_certificate = key_owner(tmp_path), certificate_owner(tmp_path)
    sign_layout(layout, by_key)
    refused(layout, required(release=by_certificate), word="a key without a certificate")
    shutil.rmtree(layout / "signatures")
    sign_layout(layout, by_certificate)
    refused(layout, required(ada=by_key), word="does not say by which key")


def test_an_expired_certificate_is_refused_although_it_was_valid_when_it_signed(tmp_path, layout):
    owner = certificate_owner(tmp_path)
    sign_layout(layout, owner)
    refused(layout, required(release=owner), now=AT + 2 * DAY.total_seconds(), word="expired on")
    refused(layout, required(release=owner), now=AT - 2 * DAY.total_seconds(), word="begins on")


def test_an_expired_authority_is_refused(tmp_path, layout):
    owner = certificate_owner(tmp_path, days=(-8, 30), authority_days=(-9, -7))
    sign_layout(layout, owner)
    refused(layout, required(release=owner), word="every certificate of the authority has expired")


def test_a_certificate_in_another_name_or_of_another_authority_is_refused(tmp_path, layout):
    mallory = certificate_owner(tmp_path, name="mallory@example.com")
    sign_layout(layout, mallory)
    refused(layout, required(release=mallory), word="is that of mallory@example.com")
    shutil.rmtree(layout / "signatures")
    sign_layout(layout, certificate_owner(tmp_path))
    refused(layout, required(release=certificate_owner(tmp_path)), word="does not verify")


def test_a_signature_of_another_bundle_is_refused(tmp_path, layout):
    owner = key_owner(tmp_path)
    _, other = make_bundle(tmp_path / "home", prompt="Another.")
    sign_layout(other, owner)
    shutil.copytree(other / "signatures", layout / "signatures")
    refused(layout, required(ada=owner), word="it is a signature of sha256:")


def test_a_signature_with_the_digest_of_this_bundle_written_into_it_is_refused(tmp_path, layout):
    owner = key_owner(tmp_path)
    _, other = make_bundle(tmp_path / "home", prompt="Another.")
    forged = json.loads(sign(other / "index.json", owner.key, environ={}))
    statement = json.loads(base64.b64decode(forged["dsseEnvelope"]["payload"]))
    real = json.loads(sign(layout / "index.json", owner.key, environ={}))
    ours = json.loads(base64.b64decode(real["dsseEnvelope"]["payload"]))
    statement["predicate"]["resources"] = ours["predicate"]["resources"]
    statement["subject"] = ours["subject"]
    forged["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    (layout / "signatures").mkdir()
    (layout / "signatures" / "x.json").write_text(json.dumps(forged))
    refused(layout, required(ada=owner), word="does not verify")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"dsseEnvelope": {"payload": "e30="}}'])
def test_what_is_no_signature_is_refused(tmp_path, layout, content):
    (layout / "signatures").mkdir()
    (layout / "signatures" / "x.json").write_bytes(content)
    refused(layout, required(ada=key_owner(tmp_path)), word="does not verify")


def test_a_link_among_the_signatures_is_refused(tmp_path, layout):
    owner = key_owner(tmp_path)
    sign_layout(layout, owner)
    (path,) = (layout / "signatures").iterdir()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SlipwayError, match="no signature: a link"):
        verify(layout, None, required(ada=owner), AT)


def test_who_may_sign_other_routes_only_may_not_sign_this_one(tmp_path, layout):
    owner = key_owner(tmp_path, routes=("classify",))
    sign_layout(layout, owner)
    refused(layout, required(ada=owner), word="may sign classify only")


def test_a_flipped_byte_is_refused_whoever_signed_it(tmp_path, layout):
    owner = key_owner(tmp_path)
    sign_layout(layout, owner)
    for path in sorted(path for path in layout.rglob("*") if path.is_file() and "signatures" not in path.parts):
        content = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(SlipwayError):
            verify(layout, None, required(ada=owner), AT)
        path.write_bytes(content)
    assert verify(layout, None, required(ada=owner), AT).signed_by == ("ada",)


def test_another_whole_bundle_than_was_asked_for_is_refused(tmp_path, layout):
    digest = verify(layout, None, Signatures(), AT).digest
    _, other = make_bundle(tmp_path / "home", prompt="Another.")
    with pytest.raises(SlipwayError, match="another bundle than was asked for"):
        verify(other, digest, Signatures(), AT)


@pytest.mark.parametrize(("field", "word"), [("public_key", "no public key"), ("authority", "no certificates")])
def test_a_policy_that_cannot_be_read_says_where(tmp_path, layout, field, word):
    sign_layout(layout, key_owner(tmp_path))
    names = {"names": ["a"]} if field == "authority" else {}
    nonsense = {field: "-----BEGIN nothing", **names}
    policy = Signatures(signers={"ada": Signer.model_validate(nonsense)})
    with pytest.raises(SlipwayError, match=word) as caught:
        verify(layout, None, policy, AT)
    assert caught.value.where == f"environment.yaml: signatures.signers.ada.{field}"
    absent = Signatures(signers={"ada": Signer.model_validate({field: "nowhere.pem", **names})})
    with pytest.raises(SlipwayError, match=r"nowhere.pem cannot be read"):
        verify(layout, None, absent, AT)


def test_a_key_that_is_missing_or_of_another_kind_cannot_sign(tmp_path, layout):
    with pytest.raises(SlipwayError, match="does not exist"):
        sign(layout / "index.json", SigningKey(private_key=tmp_path / "nowhere.pem"))
    (tmp_path / "text.pem").write_text("no key")
    with pytest.raises(SlipwayError, match="cannot be signed"):
        sign(layout / "index.json", SigningKey(private_key=tmp_path / "text.pem"))


def test_a_certificate_of_another_key_cannot_sign(tmp_path, layout):
    owner, other = certificate_owner(tmp_path), key_owner(tmp_path)
    mixed = SigningKey(private_key=other.key.private_key, certificate=owner.key.certificate)
    with pytest.raises(SlipwayError, match="does not match"):
        sign(layout / "index.json", mixed)


def test_the_environment_names_another_key_than_the_file(tmp_path):
    configured = SigningKey(private_key=tmp_path / "configured.pem")
    assert signing_key(configured, {}) == configured
    assert signing_key(None, {}) is None
    environ = {"SLIPWAY_SIGNING_KEY": "k.pem", "SLIPWAY_SIGNING_CERTIFICATE": "c.pem", "SLIPWAY_SIGNING_CHAIN": "a:b"}
    found = signing_key(configured, environ)
    assert (str(found.private_key), str(found.certificate), [str(one) for one in found.chain]) == (
        "k.pem",
        "c.pem",
        ["a", "b"],
    )


def test_others_verify_the_signature_with_model_signing_itself(tmp_path, layout):
    from model_signing import verifying

    owner = key_owner(tmp_path)
    sign_layout(layout, owner)
    (tmp_path / "public.pem").write_text(owner.signer.public_key)
    (signature,) = (layout / "signatures").iterdir()
    config = verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "public.pem")
    config.verify(layout / "index.json", signature)
