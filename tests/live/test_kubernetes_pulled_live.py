"""Pods that pull signed bundles from a registry by themselves: released while pods die, taken back, and refused."""

import time
from collections.abc import Iterator

import pytest
from pulled_world import TRIES, Killer, PulledWorld, pulled_world, sign_here
from release_child import TOKEN
from signed_bundles import Owner, key_owner
from stub_project import until

from delivery.build.bundle import Bundle
from delivery.clients.agent import AgentError
from delivery.clients.bundles.images import bundle_folder, unpack_adapter
from delivery.clients.registry.push import push
from delivery.clients.registry.reference import parse
from delivery.clients.registry.signatures import sign
from delivery.clients.registry.verify import add_signature
from delivery.clients.registry.wire import Wire
from delivery.progress import silent
from tasks.release.rollback import rollback
from tasks.release.site import open_site_of
from tasks.serving import environment
from tasks.serving.target import AdapterOrigin, readiness

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulledWorld]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
        with pulled_world(tmp_path_factory.mktemp("pulled")) as found:
            environment.start(found.project, found.home, silent, attached=True)
            yield found


def built(world: PulledWorld, seed: int) -> Bundle:
    """Signed here by the one whose signature counts, as `slipway build` does."""
    bundle = world.built(seed)
    sign_here(bundle, world.home, world.owner)
    return bundle


@pytest.mark.timeout(300)
def test_a_release_goes_through_while_pods_are_killed_at_random_and_back(world: PulledWorld) -> None:
    bundle, killer = built(world, 1), Killer(world)
    with world.users(at_once=3), killer.at_work():
        outcome = world.release(bundle, silent)
    assert (outcome.outcome, outcome.failed_user_requests) == ("live", 0), (outcome, world.failed[:3])
    assert world.failed == []
    assert sum(killer.done.values()) >= 3, killer.done
    whole = "vllm 3 of 3 ready, gateway 3 of 3 ready"
    until(lambda: readiness(world.target.state()) == whole, 120)
    until(lambda: all(bundle.served_name in models for models in world.models()), 60)
    with world.users(at_once=3), open_site_of(world.project, world.home) as site:
        done = rollback(site, "tutor", by="ann", reason="a try")
    assert done.outcome == "rolled_back", done.problem
    assert done.to_stable_s is not None
    assert world.failed == []
    print(f"{world.asked} requests, 0 failed; {killer.done}; to stable {done.to_stable_s:.2f} s")


def publish(world: PulledWorld, bundle: Bundle, *signed_by: Owner) -> str:
    """Into the registry with these signatures alone, before it is signed here as it should be."""
    folder = bundle_folder(bundle, world.home)
    for owner in signed_by:
        add_signature(folder, sign(folder / "index.json", owner.key, environ={}))
    registry = world.project.environment.registry
    to = parse(f"{registry.repository}:{bundle.variant_name}")
    digest = push(Wire(to.host, registry), to, folder, world.home).reference.digest
    sign_here(bundle, world.home, world.owner)
    return str(digest)


def flip_a_byte(world: PulledWorld, bundle: Bundle) -> None:
    """Of the adapter's layer, where the registry keeps it."""
    assert bundle.adapter is not None
    layout = bundle_folder(bundle, world.home) / "blobs" / "sha256"
    layer = max(layout.iterdir(), key=lambda file: file.stat().st_size).name
    (kept,) = world.registry.storage.glob(f"**/sha256/*/{layer}/data")
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)


@pytest.mark.timeout(200)
def test_what_the_registry_hands_out_wrong_is_refused_by_each_pod_and_gets_no_share(
    world: PulledWorld, tmp_path_factory: pytest.TempPathFactory
) -> None:
    flipped, others, expired = (world.built(seed) for seed in (11, 12, 13))
    publish(world, flipped, world.owner)
    flip_a_byte(world, flipped)
    publish(world, others, key_owner(tmp_path_factory.mktemp("others"), "theirs"))
    publish(world, expired, world.expired)
    with world.users(at_once=2):
        outcome = world.release_by(TRIES.model_copy(update={"max_hold_s": 4}), flipped)
    assert outcome.outcome != "live"
    assert world.failed == []
    with open_site_of(world.project, world.home) as site:
        records = [r for client in site.gateways.values() for r in client.records(0, 100_000).records]
        assert not [r for r in records if r.variant == flipped.variant_name], "nobody was sent to it"
        told_of(world, "the registry sends something else than was asked for")
        for bundle, why in ((others, "does not verify"), (expired, "expired on")):
            path = site.target.place(unpack_adapter(bundle, world.home), AdapterOrigin(bundle.digest, time.time()))
            for url in world.target.replicas:
                with pytest.raises(AgentError, match=why):
                    site.target.prove(url, path)
            told_of(world, why)


def told_of(world: PulledWorld, why: str) -> None:
    said = readiness(world.target.state())
    assert said.startswith("vllm 0 of 3 ready, gateway 3 of 3 ready"), said
    assert said.count(why) == 3, said
    print(said)
