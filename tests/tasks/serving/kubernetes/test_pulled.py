"""What pods are told to pull: noted once, pushed where the registry lacks it, and never asked for again."""

from pathlib import Path

import pytest
from signed_bundles import key_owner, make_bundle, required
from stub_registry import Fault, StubRegistry, stub_registry

from configs.environment import Environment
from configs.errors import SlipwayError
from configs.registry import Signatures
from delivery.clients.registry.errors import RegistryError
from tasks.release.published import push_bundle
from tasks.serving.kubernetes.pulled import agent_config, offer, offers
from tasks.serving.target import AdapterOrigin


def environment_of(registry: StubRegistry, **more: object) -> Environment:
    said = {"repository": f"{registry.address}/team/adapters", "timeout_s": 0.2}
    return Environment.model_validate({"registry": said, **more})


def test_a_bundle_that_the_registry_lacks_is_pushed_and_one_that_it_has_is_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with stub_registry() as registry:
        environment = environment_of(registry)
        for number in (1, 2):
            bundle, _ = make_bundle(home, number=number)
            if number == 2:
                push_bundle(environment, home, bundle.digest, None)
            before = registry.count("PUT", "/blobs/")
            offer(environment, home, tmp_path, f"adapter-{number}", AdapterOrigin(bundle.digest, 5.0))
            assert (registry.count("PUT", "/blobs/") > before) == (number == 1)
            (found,) = offers(tmp_path, f"adapter-{number}")
            assert (found.bundle, found.as_of) == (bundle.digest, 5.0)
            assert found.digest in registry.manifests["team/adapters"]


def test_what_is_noted_needs_no_registry_and_keeps_the_time_at_which_it_was_verified(tmp_path: Path) -> None:
    home = tmp_path / "home"
    bundle, _ = make_bundle(home)
    with stub_registry() as registry:
        environment = environment_of(registry)
        offer(environment, home, tmp_path, "a", AdapterOrigin(bundle.digest, 5.0))
        registry.fault = lambda method, path: Fault(status=500)
        offer(environment, home, tmp_path, "a", AdapterOrigin(bundle.digest, 9.0))
        assert [one.as_of for one in offers(tmp_path, "a")] == [5.0]
        other, _ = make_bundle(home, prompt="Tell.")
        registry.fault = lambda method, path: Fault(status=403)
        with pytest.raises(RegistryError, match="this login may not do that"):
            offer(environment, home, tmp_path, "a", AdapterOrigin(other.digest, 9.0))
        assert len(offers(tmp_path, "a")) == 1


def test_agents_are_told_keys_and_authorities_and_no_path_of_this_machine(tmp_path: Path) -> None:
    owner, authority = key_owner(tmp_path), tmp_path / "ca.pem"
    (tmp_path / "key.pub").write_text(str(owner.signer.public_key))
    authority.write_text("-----BEGIN CERTIFICATE-----")
    signatures = required(team=owner).model_dump(mode="json", exclude_defaults=True)
    signatures["signers"]["team"]["public_key"] = str(tmp_path / "key.pub")
    signatures["sign_with"] = {"private_key": str(owner.key.private_key)}
    environment = Environment.model_validate(
        {"registry": {"repository": "r.example/a", "ca_file": str(authority)}, "signatures": signatures}
    )
    config, text = agent_config(environment, "/etc/agent")
    assert text == authority.read_text()
    assert config.signatures == Signatures(required=True, signers={"team": owner.signer})
    assert str(tmp_path) not in config.model_dump_json()
    (tmp_path / "key.pub").unlink()
    with pytest.raises(SlipwayError, match="cannot be read") as caught:
        agent_config(environment, "/etc/agent")
    assert "signatures.signers.team" in str(caught.value)
