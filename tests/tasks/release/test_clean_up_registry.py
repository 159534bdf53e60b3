"""`slipway gc --registry`: what goes from a repository, with its signatures; what never does; and who refuses."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from debian_registry import debian_registry
from release_fakes import base_bundle
from signed_bundles import key_owner, make_bundle
from stub_registry import Fault, StubRegistry, stub_registry
from test_clean_up import release

from configs.canonical import digest_bytes, short
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.registry import SigningKey
from configs.retention import Retention
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.clients.bundles.images import write_bundle
from delivery.clients.registry.errors import RegistryError
from tasks.release.clean_up import Cleaned
from tasks.release.clean_up_registry import clean_registry
from tasks.release.published import pull_bundle, push_bundle
from tasks.release.site import open_ledger
from tasks.serving.kubernetes.pulled import offer, offers
from tasks.serving.target import AdapterOrigin

NOW, DAY_S = 2_000_000_000.0, 86_400.0
POLICY = Retention(keep_bundles=1, keep_days=7)
PASSED = GateDecision(passed=True, findings=())


@pytest.fixture
def registry() -> Iterator[StubRegistry]:
    with stub_registry() as found:
        yield found


def environment_of(host: str, key: SigningKey | None = None) -> Environment:
    said = {"registry": {"repository": f"{host}/team/adapters", "timeout_s": 0.5}}
    if key is not None:
        said["signatures"] = {"sign_with": {"private_key": str(key.private_key)}}
    return Environment.model_validate(said)


def published(environment: Environment, home: Path, count: int = 4) -> list[Bundle]:
    """Signed and pushed; the first is 40 days old, the last 10."""
    made = []
    with closing(open_ledger(environment, home)) as ledger:
        for number in range(count):
            bundle, _ = make_bundle(home, number=number)
            ledger.add_build(bundle, PASSED, NOW - (40 - 10 * number) * DAY_S)
            push_bundle(environment, home, bundle.digest, None)
            made.append(bundle)
    return made


def run(environment: Environment, home: Path, *, dry_run: bool = False) -> Cleaned:
    return clean_registry(environment, home, None, POLICY, NOW, dry_run=dry_run)


def names(found: Cleaned) -> set[str]:
    return {ref.name for ref in found.removed}


def tags(registry: StubRegistry) -> set[str]:
    return {name for name in registry.manifests["team/adapters"] if not name.startswith("sha256")}


@pytest.mark.parametrize("knows_referrers", [True, False])
def test_old_bundles_go_with_all_that_only_they_lead_to_and_their_signatures(registry, tmp_path, knows_referrers):
    registry.knows_referrers = knows_referrers
    home = tmp_path / "home"
    environment = environment_of(registry.address, key_owner(tmp_path).key)
    bundles = published(environment, home)
    said = run(environment, home, dry_run=True)
    before = dict(registry.manifests["team/adapters"])
    assert said.removed == ()
    assert registry.count("DELETE", "") == 0
    found = run(environment, home)
    assert found.cleanup == said.cleanup
    assert names(found) == {short(bundle.digest) for bundle in bundles[:3]}
    assert tags(registry) == {bundles[3].variant_name}
    left = len({content for _, content in registry.manifests["team/adapters"].values()})
    assert left < len({content for _, content in before.values()}) / 3, "manifests and signatures went too"
    shutil.rmtree(home / "bundles")
    pulled = pull_bundle(environment, home, f"{registry.address}/team/adapters:{bundles[3].variant_name}", NOW)
    assert pulled.bundle == bundles[3]
    assert run(environment, home).removed == ()


def test_what_is_live_its_way_back_and_what_a_release_needs_stay_whatever_their_age(registry, tmp_path):
    home, environment = tmp_path / "home", environment_of(registry.address)
    bundles = published(environment, home, 5)
    write_bundle(base_bundle(), None, home)
    with closing(open_ledger(environment, home)) as ledger:
        release(ledger, bundles[0], base_bundle(), "r0", live=True, base=base_bundle())
        release(ledger, bundles[1], bundles[0], "r1", live=True, base=base_bundle())
        release(ledger, bundles[2], bundles[1], "r2", live=False, base=base_bundle())
    found = run(environment, home)
    assert names(found) == {short(bundles[3].digest)}
    kept = found.cleanup.kept["bundle"]
    assert kept[short(bundles[1].digest)] == "live of tutor in local"
    assert "under way" in kept[short(bundles[2].digest)]


def test_a_release_that_begins_meanwhile_keeps_its_bundle(registry, tmp_path):
    home, environment = tmp_path / "home", environment_of(registry.address)
    bundles = published(environment, home)

    def begin(done: int, total: int, text: str) -> None:
        if done == 1:
            with closing(open_ledger(environment, home)) as ledger:
                release(ledger, bundles[1], base_bundle(), "r", live=False, base=base_bundle())

    clean_registry(environment, home, None, POLICY, NOW, dry_run=False, on_progress=begin)
    assert bundles[1].variant_name in tags(registry)


def test_a_persons_tag_keeps_a_bundle_and_strangers_are_left_alone(registry, tmp_path):
    home, environment = tmp_path / "home", environment_of(registry.address)
    bundles = published(environment, home)
    push_bundle(environment, home, bundles[0].digest, f"{registry.address}/team/adapters:production")
    elsewhere = tmp_path / "other" / "home"
    stranger, _ = make_bundle(elsewhere, prompt="Tell.", number=9)
    push_bundle(environment, elsewhere, stranger.digest, None)
    content = b'{"schemaVersion": 2, "manifests": []}'
    for name in ("a-tool", digest_bytes(content)):
        registry.manifests["team/adapters"][name] = ("application/vnd.oci.image.index.v1+json", content)
    found = run(environment, home)
    assert {bundles[0].variant_name, "production", stranger.variant_name, "a-tool"} <= tags(registry)
    assert found.cleanup.kept["bundle"][short(bundles[0].digest)] == "the tag production leads to it"
    left = "; ".join(map(str, found.left_alone))
    assert "no ledger here knows this bundle" in left
    assert "it is no bundle of ours" in left


def test_a_registry_that_deletes_nothing_says_so_once_and_a_way_out(registry, tmp_path):
    registry.deletes = False
    home, environment = tmp_path / "home", environment_of(registry.address)
    bundles = published(environment, home)
    with pytest.raises(RegistryError, match="the registry deletes nothing for this login") as caught:
        run(environment, home)
    assert "storage.delete.enabled" in str(caught.value)
    assert registry.count("DELETE", "") == 1
    assert tags(registry) == {bundle.variant_name for bundle in bundles}


def test_without_an_answer_or_a_name_nothing_is_decided(registry, tmp_path):
    home, environment = tmp_path / "home", environment_of(registry.address)
    published(environment, home, 2)
    with pytest.raises(SlipwayError, match="no registry is named"):
        run(Environment(), home)
    with pytest.raises(SlipwayError, match="a repository is cleaned up as a whole"):
        clean_registry(environment, home, f"{registry.address}/team/adapters:v1", POLICY, NOW, dry_run=False)
    registry.fault = lambda method, path: Fault(status=403) if "tags/list" in path else None
    with pytest.raises(RegistryError, match="may not do that"):
        run(environment, home)


def test_pods_are_not_told_any_more_to_pull_what_is_gone_and_a_later_release_pushes_it_anew(registry, tmp_path):
    home, environment = tmp_path / "home", environment_of(registry.address)
    bundles, folder = published(environment, home), home / "environments" / "production"
    for bundle in (bundles[0], bundles[3]):
        offer(environment, home, folder, short(bundle.adapter.digest), AdapterOrigin(bundle.digest, NOW))
    run(environment, home)
    assert offers(folder, short(bundles[0].adapter.digest)) == []
    assert len(offers(folder, short(bundles[3].adapter.digest))) == 1
    offer(environment, home, folder, short(bundles[0].adapter.digest), AdapterOrigin(bundles[0].digest, NOW))
    assert bundles[0].variant_name in tags(registry)


@pytest.mark.live
@pytest.mark.parametrize("deletes", [True, False])
def test_debians_registry_deletes_or_says_that_it_does_not(tmp_path, monkeypatch, deletes):
    home = tmp_path / "home"
    with debian_registry(tmp_path / "registry", guarded=True, deletes=deletes) as there:
        for name, value in there.login.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SSL_CERT_FILE", str(there.ca_file))
        environment = environment_of(there.host, key_owner(tmp_path).key)
        bundles = published(environment, home)
        if not deletes:
            with pytest.raises(RegistryError, match=r"the registry deletes nothing for this login.*UNSUPPORTED"):
                run(environment, home)
            return
        assert names(run(environment, home)) == {short(bundle.digest) for bundle in bundles[:3]}
        repository = f"{there.host}/team/adapters"
        with pytest.raises(RegistryError, match="does not have it"):
            pull_bundle(environment, tmp_path / "else", f"{repository}:{bundles[0].variant_name}", NOW)
        assert (
            pull_bundle(environment, tmp_path / "else", f"{repository}:{bundles[3].variant_name}", NOW).signed_by == ()
        )
        assert run(environment, home).removed == ()
