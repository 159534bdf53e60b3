"""Several targets behind one route: what may be said together, and what is refused with all that is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.environment import Environment
from configs.loading import check_values
from configs.target import CombinedTarget, ExternalTarget, members_of

DIGEST = "sha256:" + "0" * 64
LOCAL = {"kind": "local"}
DOCKER = {"kind": "docker", "vllm_image": DIGEST, "gateway_image": DIGEST, "gateways": 0}
PODS = {
    "kind": "kubernetes",
    "namespace": "serving",
    "images": {"vllm": f"vllm@{DIGEST}", "gateway": f"gateway@{DIGEST}"},
    "base_model": {"claim": "base"},
    "gateways": {"replicas": 0},
}


def rack(*replicas: str, gateways: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"kind": "external", "replicas": replicas, "gateways": gateways, "adapters_on_replicas": "/mnt/adapters"}


ONE, OTHER = "http://10.0.0.1:8000", "http://10.0.0.2:8000"


def environment(members: dict[str, Any], **more: Any) -> Environment:
    return Environment.model_validate({"target": {"kind": "combined", "members": members}, **more})


def test_all_kinds_go_together_where_one_member_has_the_gateways() -> None:
    found = environment({"here": LOCAL, "boxes": DOCKER, "cluster": PODS, "rack": rack(ONE), "shelf": rack(OTHER)})
    assert isinstance(found.target, CombinedTarget)
    assert list(members_of(found.target)) == ["here", "boxes", "cluster", "rack", "shelf"]
    pods = PODS | {"gateways": {"replicas": 2}}
    assert environment({"cluster": pods, "rack": rack(ONE)})


def test_everything_that_does_not_fit_together_is_told_at_once() -> None:
    members = {
        "one": rack(ONE, OTHER),
        "two": rack(OTHER),
        "boxes": DOCKER | {"gateways": 2},
        "more": DOCKER,
    }
    values = {"target": {"kind": "combined", "members": members}}
    _, (problem,) = check_values(values, Environment, lambda key: key)
    assert problem.where == "target.combined"
    assert "boxes, more are all docker" in problem.what
    assert f"{OTHER} is a replica or gateway of one and of two" in problem.what
    assert "the gateways of boxes are in a network without a way out" in problem.what
    assert "set members.boxes.gateways: 0" in problem.cure
    assert "name it in one member" in problem.cure


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a": rack(ONE), "b": PODS}, "no member has a gateway"),
        ({"a": LOCAL}, "at least 2 items"),
        ({"a": LOCAL, "b": LOCAL}, "a, b are all local"),
        ({"a": LOCAL, "b": PODS | {"gateways": {"replicas": 1}}}, "do not reach a vLLM on this machine"),
        ({"a": LOCAL, "b": PODS | {"gateways": {"replicas": 0, "max_replicas": 3}}}, "with one replica at least"),
        ({"A b": LOCAL, "c": rack(ONE)}, "String should match pattern"),
        ({"a": LOCAL, "b": {"kind": "combined", "members": {}}}, "does not match any of the expected tags"),
    ],
)
def test_what_could_not_work_is_refused(members: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        environment(members)


@pytest.mark.parametrize("target", [rack(ONE), DOCKER, PODS])
def test_a_target_that_stands_alone_has_a_gateway(target: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="target has no gateway"):
        Environment.model_validate({"target": target})


def test_a_setting_is_said_in_vain_only_where_no_member_heeds_it() -> None:
    vllm = {"port": 8111, "python": "/usr/bin/python3"}
    found = environment({"here": LOCAL, "cluster": PODS, "rack": rack(ONE)}, vllm=vllm)
    of_pods = found.heeded_by(members_of(found.target)["cluster"])
    assert (of_pods.vllm.port, of_pods.vllm.python) == (8111, None)
    of_rack = found.heeded_by(members_of(found.target)["rack"])
    assert isinstance(of_rack.target, ExternalTarget)
    assert of_rack.vllm.port == 8100
    with pytest.raises(ValidationError, match=r"vllm\.python would"):
        environment({"cluster": PODS | {"gateways": {"replicas": 1}}, "rack": rack(ONE)}, vllm=vllm)
