"""What environment.yaml may ask of a Docker engine."""

import pytest
from pydantic import ValidationError

from configs.docker import DockerTarget
from configs.environment import Environment

DIGEST = "sha256:" + 64 * "a"
IMAGES = {"kind": "docker", "vllm_image": DIGEST, "gateway_image": f"registry.example/gateway@{DIGEST}"}


def test_replicas_and_gateways_have_addresses_of_their_own_in_one_network() -> None:
    target = DockerTarget.model_validate({**IMAGES, "replicas": 64, "gateways": 32, "subnet": "10.9.8.0/24"})
    replicas = [target.replica_address(number) for number in range(64)]
    gateways = [target.gateway_address(number) for number in range(32)]
    assert str(replicas[0]), str(gateways[-1]) == ("10.9.8.10", "10.9.8.131")
    assert len({*replicas, *gateways}) == 96
    assert all(address in target.subnet for address in (*replicas, *gateways))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"vllm_image": "vllm:latest"}, "is a tag that moves"),
        ({"vllm_image": "vllm"}, "should match pattern"),
        ({"subnet": "10.0.0.0/28"}, "has 16 addresses"),
        ({"subnet": "10.0.0.1/24"}, "not a valid IPv4 network"),
        ({"user": "0:0"}, "should match pattern"),
        ({"replicas": 0}, "greater than or equal to 1"),
        ({"memory": 3}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(said: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DockerTarget.model_validate({**IMAGES, **said})


@pytest.mark.parametrize(
    "said",
    [
        {"vllm": {"port": 1}},
        {"vllm": {"python": "/usr/bin/python3"}},
        {"gateway": {"admin_port": 2}},
        {"gateway": {"table_state": "x.json"}},
    ],
)
def test_a_setting_of_one_machine_that_a_container_would_not_heed_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="would change nothing: inside a container that is settled"):
        Environment.model_validate({"target": IMAGES, **said})


def test_what_tunes_vllm_and_where_users_ask_is_heeded() -> None:
    said = {"vllm": {"max_loras": 4, "extra_args": ["--seed", "7"]}, "gateway": {"host": "0.0.0.0", "port": 80}}
    assert Environment.model_validate({"target": IMAGES, **said}).gateway.port == 80
    with pytest.raises(ValidationError, match="the last gateway's port would be 65536"):
        Environment.model_validate({"target": {**IMAGES, "gateways": 2}, "gateway": {"port": 65535}})
