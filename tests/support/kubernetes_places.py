"""Settings of environments on a cluster: each way in which pods find their model and their adapters."""

from typing import Any

from configs.environment import Environment
from tasks.serving.kubernetes.names import Place, Secrets

DIGEST = "@sha256:" + "0" * 64
IMAGES = {"vllm": f"registry.example/vllm{DIGEST}", "gateway": f"registry.example/gateway{DIGEST}"}
TOKENS = Secrets("an-admin-token", "a-vllm-key", "an-agent-token")
ON_A_GPU: dict[str, Any] = {
    "vllm": {
        "gpus": 2,
        "max_replicas": 4,
        "runtime_class": "nvidia",
        "node_selector": {"accelerator": "h200"},
        "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
    },
    "gateways": {"replicas": 3, "max_replicas": 9},
    "images": {**IMAGES, "pull_secrets": ["registry"]},
    "controllers": ["10.0.0.0/24"],
}
WAYS: dict[str, dict[str, Any]] = {
    "sent": {},
    "on a GPU": ON_A_GPU,
    "shared": {"adapters": {"kind": "shared", "claim": "adapters"}},
    "pulled": {
        "adapters": {
            "kind": "pulled",
            "login_secret": "registry-login",
            "from_start": ["sha256:" + "1" * 64],
            "registry_networks": ["10.9.0.0/24"],
        }
    },
    "from an image": {"base_model": {"image": f"registry.example/base{DIGEST}", "sub_path": "models"}},
    "on one node": {
        "vllm": {"gpus": 0, "replicas": 1, "cpu": "1500m"},
        "base_model": {"host_path": "/srv/base"},
        "adapters": {"kind": "shared", "host_path": "/srv/adapters"},
    },
}


def place(*, environment: dict[str, Any] | None = None, **target: Any) -> Place:
    """An environment on a cluster; `target` and the rest of `environment` as environment.yaml has them."""
    said = {"kind": "kubernetes", "namespace": "serving", "images": IMAGES, "base_model": {"claim": "base"}} | target
    registry = {"repository": "registry.example:5000/team/adapters"}
    more = {"registry": registry, **(environment or {})}
    found = Environment.model_validate({"name": "production", "target": said, **more})
    assert found.target.kind == "kubernetes"
    return Place(found, found.target)
