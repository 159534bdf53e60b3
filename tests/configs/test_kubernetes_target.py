"""What a team may say of its cluster, and what is refused with the cure."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.environment import Environment
from configs.kubernetes import KubernetesTarget

DIGEST = "@sha256:" + "0" * 64


def target(**more: Any) -> dict[str, Any]:
    images = {"vllm": f"registry.example/vllm{DIGEST}", "gateway": f"registry.example/gateway{DIGEST}"}
    return {"kind": "kubernetes", "namespace": "serving", "images": images, "base_model": {"claim": "base"}} | more


def test_a_namespace_images_and_the_base_model_are_enough() -> None:
    found = Environment.model_validate({"target": target()}).target
    assert isinstance(found, KubernetesTarget)
    assert (found.vllm.gpus, found.vllm.replicas, found.gateways.replicas) == (1, 2, 2)
    assert found.adapters.kind == "sent"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": {"vllm": "vllm:latest", "gateway": f"g{DIGEST}"}}, "vllm:latest can be another image tomorrow"),
        ({"base_model": {}}, "say one of claim, image, host_path, in_image"),
        ({"base_model": {"claim": "a", "host_path": "/b"}}, "claim, host_path is given"),
        ({"base_model": {"image": "models/base:1"}}, "name it by digest"),
        ({"adapters": {"kind": "shared"}}, "say claim or host_path, and not both"),
        ({"vllm": {"replicas": 3, "max_replicas": 3}}, "leave max_replicas out"),
        ({"vllm": {"memory": "a lot"}}, "String should match pattern"),
        ({"namespace": "Not_A_Name"}, "String should match pattern"),
        ({"in_cluster": True, "context": "prod"}, "leave kubeconfig and context out"),
    ],
)
def test_what_could_not_work_is_refused_with_what_to_do(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Environment.model_validate({"target": target(**changed)})


def test_tags_are_believed_only_where_nothing_is_pulled() -> None:
    images = {"vllm": "vllm:1", "gateway": "gateway:1", "pull_policy": "Never"}
    Environment.model_validate({"target": target(images=images)})


@pytest.mark.parametrize("part", [{"vllm": {"host": "0.0.0.0"}}, {"gateway": {"table_state": "/var/table.json"}}])
def test_places_of_this_machine_are_refused_for_pods(part: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="would say nothing in a pod"):
        Environment.model_validate({"target": target(), **part})
