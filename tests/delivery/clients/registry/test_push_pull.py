"""What is pushed comes back byte for byte, is sent and fetched once, and a registry that lies is found out."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from signed_bundles import AT, key_owner, make_bundle, required, sign_layout
from stub_registry import PASSWORD, USER, Fault, stub_registry

from configs.errors import SlipwayError
from configs.registry import RegistryConfig, Signatures
from delivery.clients.bundles import images, layout
from delivery.clients.registry import known
from delivery.clients.registry.attached import SIGNATURE
from delivery.clients.registry.errors import LyingRegistryError, RegistryError
from delivery.clients.registry.pull import pull, resolve
from delivery.clients.registry.push import push
from delivery.clients.registry.reference import parse
from delivery.clients.registry.wire import Wire

ADA = {"SLIPWAY_REGISTRY_USER": USER, "SLIPWAY_REGISTRY_PASSWORD": PASSWORD}
ANYBODY = Signatures()


@pytest.fixture
def registry():
    with stub_registry() as found:
        yield found


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


class Pauses(list):
    """Remembers how long would have been slept."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def wire_to(registry, environ=ADA, timeout_s=5.0, pauses=None, is_plain=True):
    return Wire(
        registry.address,
        RegistryConfig(timeout_s=timeout_s),
        environ=environ,
        sleep=Pauses() if pauses is None else pauses,
    )


def pushed(registry, home, path="team/adapters", tag="v1", **made):
    _, folder = make_bundle(home, **made)
    return push(wire_to(registry), parse(f"{registry.address}/{path}:{tag}"), folder, home).reference


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nothing_looks_whole(home: Path) -> bool:
    return images.list_bundles(home) == [] and not [*(home / "bundles").glob("[0-9a-f]*")]


@pytest.mark.parametrize("login", ["", "basic", "bearer"])
@pytest.mark.parametrize("knows_referrers", [False, True])
def test_what_is_pushed_comes_back_byte_for_byte_with_its_signatures(registry, home, tmp_path, login, knows_referrers):
    registry.login, registry.knows_referrers = login, knows_referrers
    bundle, folder = make_bundle(home)
    ada, bob = key_owner(tmp_path), key_owner(tmp_path, "bob")
    for owner in (ada, bob):
        sign_layout(folder, owner)
    sent = push(wire_to(registry), parse(f"{registry.address}/team/adapters:v1"), folder, home)
    assert sent.reference.digest == layout.index_digest(folder)
    found = pull(wire_to(registry), sent.reference, tmp_path / "there", required(ada=ada, bob=bob), AT)
    assert (found.bundle, found.signed_by) == (bundle, ("ada", "bob"))
    assert contents(found.folder) == contents(folder)
    assert images.read_bundle(tmp_path / "there", bundle.digest) == bundle
    assert not (tmp_path / "there" / "downloads").exists()


def test_pushing_again_sends_no_byte_of_a_blob(registry, home):
    pushed(registry, home)
    before = registry.count("PUT", "/blobs/uploads/")
    pushed(registry, home)
    assert registry.count("PUT", "/blobs/uploads/") == before


def test_a_bundle_with_the_same_weights_sends_and_fetches_the_rest_only(registry, home, tmp_path):
    first = pushed(registry, home)
    pull(wire_to(registry), first, tmp_path / "there", ANYBODY, AT)
    registry.asked.clear()
    second = pushed(registry, home, prompt="Another.", tag="v2")
    assert registry.count("PUT", "/blobs/uploads/") == 3  # settings and two configurations
    found = pull(wire_to(registry), second, tmp_path / "there", ANYBODY, AT)
    whole = sum(path.stat().st_size for path in (found.folder / "blobs/sha256").iterdir())
    assert registry.count("GET", "/blobs/sha256:") == 3
    assert found.fetched_bytes == whole - len(registry.blobs[second.path][blob_digests(registry, second)["weights"]])


def test_pulling_again_fetches_no_blob(registry, home, tmp_path):
    reference = pushed(registry, home)
    pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT)
    registry.asked.clear()
    assert pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT).fetched_bytes == 0
    assert registry.count("GET", "/blobs/") == 0


def test_a_signature_that_was_added_here_outlasts_another_pull(registry, home, tmp_path):
    reference, there, ada = pushed(registry, home), tmp_path / "there", key_owner(tmp_path)
    sign_layout(pull(wire_to(registry), reference, there, ANYBODY, AT).folder, ada)
    assert pull(wire_to(registry), reference, there, required(ada=ada), AT).signed_by == ("ada",)


def test_blobs_of_another_repository_are_mounted(registry, home):
    pushed(registry, home, path="dev/adapters")
    registry.asked.clear()
    _, folder = make_bundle(home)
    sent = push(wire_to(registry), parse(f"{registry.address}/prod/adapters:v1"), folder, home)
    assert set(sent.blobs.values()) == {"mounted", "sent"}
    assert registry.count("PUT", "/blobs/uploads/") == 0  # manifests alone were sent
    assert registry.blobs["prod/adapters"] == registry.blobs["dev/adapters"]


def test_a_registry_that_mounts_nothing_is_sent_everything(registry, home):
    pushed(registry, home, path="dev/adapters")
    registry.fault = lambda method, path: Fault(status=405) if "mount=" in path else None
    pushed(registry, home, path="prod/adapters")
    assert registry.blobs["prod/adapters"] == registry.blobs["dev/adapters"]


def test_a_login_is_not_sent_to_another_registry_than_it_is_meant_for(registry, home):
    registry.login = "basic"
    elsewhere = RegistryConfig(repository="registry.example.com/team/adapters")
    with pytest.raises(RegistryError, match="wants a login"):
        push(Wire(registry.address, elsewhere, environ=ADA), parse(f"{registry.address}/x"), make_bundle(home)[1], home)


def test_the_login_of_docker_is_found(registry, home, tmp_path):
    registry.login = "basic"
    auth = "YWRhOmxvdmVsYWNl"
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
    wire = wire_to(registry, {"DOCKER_CONFIG": str(tmp_path)})
    push(wire, parse(f"{registry.address}/x:v1"), make_bundle(home)[1], home)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SlipwayError, match="Docker's file with logins") as caught:
        wire_to(registry, {"DOCKER_CONFIG": str(tmp_path)})
    assert caught.value.where == str(tmp_path / "config.json")


def test_a_credential_helper_of_docker_is_asked(registry, home, tmp_path, monkeypatch):
    registry.login = "basic"
    helper = tmp_path / "docker-credential-stub"
    helper.write_text(f'#!/bin/sh\necho \'{{"Username": "{USER}", "Secret": "{PASSWORD}"}}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.address: "stub"}}))
    push(
        wire_to(registry, {"DOCKER_CONFIG": str(tmp_path)}), parse(f"{registry.address}/x"), make_bundle(home)[1], home
    )


@pytest.mark.parametrize("login", ["basic", "bearer"])
@pytest.mark.parametrize(
    ("environ", "word", "cure"),
    [
        ({}, "wants a login", "SLIPWAY_REGISTRY_USER"),
        (ADA | {"SLIPWAY_REGISTRY_PASSWORD": "wrong"}, "does not accept", "docker login"),
    ],
)
def test_a_wrong_login_and_none_are_told_apart(registry, home, login, environ, word, cure):
    registry.login = login
    nobody = {"HOME": "/nowhere"} | environ
    with pytest.raises(RegistryError, match=word) as caught:
        push(wire_to(registry, nobody), parse(f"{registry.address}/x:v1"), make_bundle(home)[1], home)
    assert caught.value.status == 401
    assert cure in caught.value.cure
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "word", "tries"),
    [
        (Fault(status=403, body=b'{"errors":[{"code":"DENIED"}]}'), "may not do that: .*DENIED", 1),
        (Fault(status=413, body=b"<h1>too large</h1>"), "takes no upload of that size", 1),
        (Fault(status=507), "the registry is full", 1),
        (Fault(status=500, body=b"write /x: no space left on device"), "the registry is full: .*no space left", 1),
        (Fault(status=500, body=b"oops"), "the registry answers 500: oops", 4),
        (Fault(status=429), "the registry answers 429", 4),
        (Fault(status=503), "the registry answers 503", 4),
    ],
)
def test_a_registry_that_refuses_an_upload_is_explained_and_a_second_push_ends_it(registry, home, fault, word, tries):
    registry.fault = lambda method, path: fault if method == "PUT" and "/blobs/" in path else None
    with pytest.raises(RegistryError, match=word) as caught:
        pushed(registry, home)
    assert registry.address in caught.value.where
    assert caught.value.cure
    assert registry.count("PUT", "/blobs/") == tries
    assert registry.manifests.get("team/adapters", {}) == {}  # nobody finds a part of it
    registry.fault = lambda method, path: None
    pushed(registry, home)


def test_what_passes_by_itself_is_tried_again(registry, home):
    failing = iter([Fault(status=503), Fault(status=502)])
    registry.fault = lambda method, path: next(failing, None) if "/uploads/" in path else None
    pauses = Pauses()
    _, folder = make_bundle(home)
    push(wire_to(registry, pauses=pauses), parse(f"{registry.address}/x:v1"), folder, home)
    assert pauses == [0.5, 2.0]


def test_a_registry_that_is_down_is_named(home):
    _, folder = make_bundle(home)
    pauses = Pauses()
    with pytest.raises(RegistryError, match="cannot be reached") as caught:
        push(Wire("127.0.0.1:9", environ={}, sleep=pauses), parse("127.0.0.1:9/x:v1"), folder, home)
    assert "127.0.0.1:9/x:v1" in caught.value.where
    assert len(pauses) == 3


def test_a_registry_that_hangs_is_given_up(registry, home, tmp_path):
    reference = pushed(registry, home)
    registry.fault = lambda method, path: Fault(stall=True) if "/blobs/" in path else None
    with pytest.raises(RegistryError, match=r"did not answer within 0.2 s"):
        pull(wire_to(registry, timeout_s=0.2), reference, tmp_path / "there", ANYBODY, AT)
    assert nothing_looks_whole(tmp_path / "there")


def test_a_registry_that_dribbles_is_given_up(registry, home, tmp_path):
    reference = pushed(registry, home)
    registry.fault = lambda method, path: Fault(claim_less=-1, cut_at=10) if "/blobs/" in path else None
    seconds = iter(range(0, 100_000, 100))
    wire = Wire(registry.address, RegistryConfig(timeout_s=5), environ={}, sleep=Pauses(), clock=lambda: next(seconds))
    with pytest.raises(RegistryError, match=r"too slow: .* bytes in .* s"):
        pull(wire, reference, tmp_path / "there", ANYBODY, AT)


def blob_digests(registry, reference):
    """By what it is: the digests of everything below the index."""
    manifests = registry.manifests[reference.path]
    image = json.loads(manifests[reference.digest][1])["manifests"][0]["digest"]
    value = json.loads(manifests[image][1])
    weights, settings = (layer["digest"] for layer in value["layers"])
    return {
        "index": reference.digest,
        "manifest": image,
        "config": value["config"]["digest"],
        "weights": weights,
        "settings": settings,
    }


LIES = {
    "one bit": (Fault(flip=True), "content of digest sha256:|a manifest of digest"),
    "another content": (Fault(instead=b'{"schemaVersion": 2}'), "sends something else|broke off"),
    "more than was said": (Fault(add=b"x"), "more than|a manifest of digest"),
    "less than was said": (Fault(claim_less=3), "broke off|a manifest of digest"),
}


@pytest.mark.parametrize("hop", ["index", "manifest", "config", "weights", "settings"])
@pytest.mark.parametrize("lie", LIES)
def test_a_registry_that_lies_is_found_out_at_every_hop(registry, home, tmp_path, hop, lie):
    reference = pushed(registry, home)
    target = blob_digests(registry, reference)[hop]
    fault, word = LIES[lie]
    registry.fault = lambda method, path: fault if method == "GET" and path.endswith(target) else None
    with pytest.raises(RegistryError, match=word) as caught:
        pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT)
    assert target[:19] in caught.value.where
    assert nothing_looks_whole(tmp_path / "there")
    registry.fault = lambda method, path: None
    assert pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT).reference.digest == reference.digest


def test_a_swapped_layer_of_another_whole_bundle_is_found_out(registry, home, tmp_path):
    reference, other = pushed(registry, home), pushed(registry, home, prompt="Evil.", tag="v2")
    ours, theirs = blob_digests(registry, reference), blob_digests(registry, other)
    registry.blobs[reference.path][ours["settings"]] = registry.blobs[reference.path][theirs["settings"]]
    with pytest.raises(RegistryError):
        pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT)


def test_a_bundle_that_is_whole_but_not_signed_is_not_kept(registry, home, tmp_path):
    reference = pushed(registry, home)
    with pytest.raises(SlipwayError, match="no signature that counts"):
        pull(wire_to(registry), reference, tmp_path / "there", required(ada=key_owner(tmp_path)), AT)
    assert nothing_looks_whole(tmp_path / "there")


def test_a_pull_that_broke_off_goes_on_where_it_was(registry, home, tmp_path):
    reference = pushed(registry, home)
    weights = blob_digests(registry, reference)["weights"]
    registry.fault = lambda method, path: Fault(cut_at=600) if path.endswith(weights) else None
    with pytest.raises(RegistryError, match="broke off"):
        pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT)
    (part,) = (tmp_path / "there" / "downloads").rglob(f"{weights[7:]}.part")
    assert part.stat().st_size >= 600
    assert nothing_looks_whole(tmp_path / "there")
    whole = len(registry.blobs[reference.path][weights])
    registry.fault = lambda method, path: None
    found = pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT)
    assert hashlib.sha256((found.folder / "blobs/sha256" / weights[7:]).read_bytes()).hexdigest() == weights[7:]
    assert (found.folder / "blobs/sha256" / weights[7:]).stat().st_size == whole


def test_a_beginning_that_was_a_lie_is_fetched_anew(registry, home, tmp_path):
    reference = pushed(registry, home)
    weights = blob_digests(registry, reference)["weights"]
    downloads = tmp_path / "there" / "downloads" / reference.digest[7:19]
    downloads.mkdir(parents=True)
    (downloads / f"{weights[7:]}.part").write_bytes(b"x" * 500)
    (downloads / weights[7:]).write_bytes(b"y" * len(registry.blobs[reference.path][weights]))
    pauses = Pauses()
    pull(wire_to(registry, pauses=pauses), reference, tmp_path / "there", ANYBODY, AT)
    assert len(pauses) == 1


def test_a_tag_is_resolved_to_its_digest_and_one_that_moved_is_refused(registry, home, tmp_path):
    first = pushed(registry, home)
    there, tag = tmp_path / "there", parse(f"{registry.address}/team/adapters:v1")
    found = resolve(wire_to(registry), tag, there)
    assert found.digest == first.digest
    pull(wire_to(registry), found, there, ANYBODY, AT)
    _, other = make_bundle(home, prompt="Another.")
    with pytest.raises(RegistryError, match="the tag v1 leads to sha256"):
        push(wire_to(registry), tag, other, home)
    moved = push(wire_to(registry), tag, other, home, move_tag=True).reference
    with pytest.raises(RegistryError, match=f"the tag v1 moved: it led to {first.digest}") as caught:
        resolve(wire_to(registry), tag, there)
    assert moved.digest in caught.value.cure
    assert pull(wire_to(registry), moved.by_digest(), there, ANYBODY, AT).bundle.system_prompt == "Another."
    with pytest.raises(RegistryError, match="moved"):
        resolve(wire_to(registry), tag, there)  # nobody said that the tag is to be followed
    pull(wire_to(registry), moved, there, ANYBODY, AT)
    assert resolve(wire_to(registry), tag, there).digest == moved.digest


def test_by_a_tag_alone_nothing_is_pulled(registry, home, tmp_path):
    reference = pushed(registry, home)
    with pytest.raises(SlipwayError, match="a tag may lead elsewhere"):
        pull(wire_to(registry), parse(f"{registry.address}/team/adapters:v1"), tmp_path / "there", ANYBODY, AT)
    assert reference.tag == "v1"


def an_index(**changes: object) -> bytes:
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + "0" * 64, "size": 1}
    return json.dumps({"manifests": [entry | changes]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"manifests": []}',
        an_index(mediaType="application/vnd.docker.distribution.manifest.v2+json"),
        an_index(digest="../../etc/passwd"),
        an_index(size=-1),
        an_index(size="1"),
    ],
)
def test_what_is_no_bundle_is_said_plainly(registry, tmp_path, content):
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    registry.manifests["x"] = {digest: ("application/vnd.oci.image.index.v1+json", content)}
    with pytest.raises(RegistryError, match=r"not a bundle|is no manifest"):
        pull(wire_to(registry), parse(f"{registry.address}/x@{digest}"), tmp_path / "there", ANYBODY, AT)


def test_what_is_not_there_is_said_plainly(registry, home, tmp_path):
    reference = pushed(registry, home).at("sha256:" + "0" * 64)
    with pytest.raises(RegistryError, match="does not have it") as caught:
        pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT)
    assert caught.value.status == 404


def test_a_registry_that_takes_content_and_gives_back_other_is_found_out_by_the_push(registry, home):
    registry.fault = lambda method, path: Fault(flip=True) if method == "GET" and "/manifests/sha256:" in path else None
    with pytest.raises(LyingRegistryError, match="a manifest of digest"):
        pushed(registry, home)


def test_where_a_bundle_went_and_came_from_is_kept(registry, home, tmp_path):
    reference = pushed(registry, home)
    pull(wire_to(registry), reference, tmp_path / "there", ANYBODY, AT)
    assert [str(one.reference) for one in known.seen(home)] == [str(reference)]
    assert [str(one.reference) for one in known.seen(tmp_path / "there")] == [str(reference)]
    with (home / known.FILE).open("a") as file:
        file.write('{"reference": "cut')
    assert known.neighbours(home, parse(f"{registry.address}/prod/x")) == ["team/adapters"]


@pytest.mark.parametrize(
    "text",
    ["", "adapters", "team/adapters"]
    + ["https://r.io/x", "user:pw@r.io/x"]
    + [f"r.io/{end}" for end in ("", "A", "x@md5:1", "../x", "x:", "x y")],
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(SlipwayError, match=r"is no reference|names no registry"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "localhost/x",
        "reg.example.com:5000/a/b-c:v1.2_3",
        f"[::1]:5000/x@sha256:{'a' * 64}",
        f"r.io/x:t@sha256:{'0' * 64}",
    ],
)
def test_a_reference_is_written_as_it_was_read(text):
    assert str(parse(text)) == text


def test_two_pulls_into_one_folder_at_the_same_time_both_end_well(registry, home, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    reference = pushed(registry, home)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(pull, wire_to(registry), reference, tmp_path / "there", ANYBODY, AT) for _ in range(4)]
    assert {job.result().bundle.digest for job in jobs} == {make_bundle(home)[0].digest}
    assert len(images.list_bundles(tmp_path / "there")) == 1


def test_a_registrys_words_hold_no_login(registry, home):
    registry.login = "basic"
    with pytest.raises(RegistryError) as caught:
        push(
            wire_to(registry, ADA | {"SLIPWAY_REGISTRY_PASSWORD": "hunter2"}),
            parse(f"{registry.address}/x"),
            make_bundle(home)[1],
            home,
        )
    assert not re.search("hunter2|YWRh", str(caught.value))
    shutil.rmtree(home)


def test_on_this_machine_a_registry_without_tls_is_spoken_to_without_being_told(registry, home):
    _, folder = make_bundle(home)
    found = push(wire_to(registry, is_plain=False), parse(f"{registry.address}/x"), folder, home)
    assert found.reference.digest == layout.index_digest(folder)


def test_elsewhere_tls_is_a_must_unless_it_was_said_otherwise():
    assert Wire("registry.example.com", environ={}).scheme == "https"
    assert Wire("registry.example.com", RegistryConfig(plain_http=True), environ={}).scheme == "http"
    assert Wire("r.io", environ={}).here("http://r.io/v2/x/blobs/uploads/1") == "https://r.io/v2/x/blobs/uploads/1"


@pytest.mark.parametrize("manifest", [{}, {"layers": []}, {"layers": [{"mediaType": 1}]}, {"layers": "x"}])
def test_what_others_put_beside_a_bundle_under_the_kind_of_a_signature_is_passed_over(registry, tmp_path, manifest):
    reference = pushed(registry, tmp_path / "a" / "home")
    content = json.dumps({"artifactType": SIGNATURE, "subject": {"digest": reference.digest}, **manifest}).encode()
    registry.knows_referrers = True
    kept = registry.manifests["team/adapters"]
    kept["sha256:" + hashlib.sha256(content).hexdigest()] = ("application/vnd.oci.image.manifest.v1+json", content)
    assert pull(wire_to(registry), reference, tmp_path / "home", ANYBODY, AT).signed_by == ()
