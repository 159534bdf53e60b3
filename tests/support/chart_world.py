"""The chart on a real cluster: vLLM's stub and real gateways as pods, which nobody steers but the chart's values."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import yaml
from cluster_world import RealCluster
from helm import CHART, helm
from pods_world import cluster
from release_child import TOKEN
from tiny_lora import save_tiny_lora

from configs.canonical import short
from configs.environment import Environment
from configs.kubernetes import KubernetesTarget
from configs.loading import as_yaml
from delivery.clients.bundles.adapters import describe, store_at
from tasks.serving.gitops.values import chart_values
from tasks.serving.kubernetes.names import Place

NAMESPACES = count(1)
RELEASE = "slipway"


@dataclass
class ChartWorld:
    """`values`: those of the release now. `adapter`: the digest of one that lies on the node's volume."""

    cluster: RealCluster
    namespace: str
    values: dict[str, Any]
    adapter: str
    failed: list[str] = field(default_factory=list)

    @property
    def adapter_name(self) -> str:
        """As vLLM calls it."""
        return f"tutor-{short(self.adapter)}"

    def does(self, action: str, **said: Any) -> Any:
        """One of Helm's actions on the release, here in the place of what follows a repository."""
        return helm(action, kubeconfig=self.cluster.kubeconfig, namespace=self.namespace, **said)

    def sync(self, values: dict[str, Any]) -> None:
        """The cluster becomes what these values say; returns when the new pods are ready."""
        self.does("upgrade", chart=CHART, name=RELEASE, values=values, wait="legacy", timeout=150)
        self.values = values

    def url(self, component: str) -> str:
        """Of a Service."""
        service = self.cluster.api(self.namespace).get("v1", "Service", f"slipway-production-{component}")
        assert service is not None
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    def served(self, users: int = 40) -> dict[str, int]:
        """So many users ask once each: how many of them each variant answered."""
        found: dict[str, int] = {}
        body = {"model": "tutor", "messages": [{"role": "user", "content": "1 + 1?"}]}
        url = f"{self.url('gateway')}/v1/chat/completions"
        for user in range(users):
            answer = httpx.post(url, json=body, headers={"x-slipway-user": f"u{user}"}, timeout=20, trust_env=False)
            if answer.status_code != 200:
                self.failed.append(answer.text)
            variant = answer.headers.get("x-slipway-variant", f"status {answer.status_code}")
            found[variant] = found.get(variant, 0) + 1
        return found

    def until_all_get(self, variant: str, within_s: float = 60) -> float:
        """Seconds until every one of some users gets this variant."""
        begun = time.monotonic()
        while set(found := self.served(10)) != {variant}:
            assert time.monotonic() - begun < within_s, found
        return time.monotonic() - begun


@contextmanager
def chart_world(folder: Path) -> Iterator[ChartWorld]:
    """Installed, with the base model alone for all users."""
    there, namespace = cluster(), f"chart-{next(NAMESPACES)}"
    there.kubectl("create", "namespace", namespace)
    raw = save_tiny_lora(folder / "raw")
    adapter = describe(raw)
    adapters = there.folder / f"adapters-{namespace}"
    adapters.mkdir()
    adapters.chmod(0o755)
    store_at(raw, adapter, adapters / short(adapter.digest)).chmod(0o755)
    said = there.environment(
        namespace, base_model={"in_image": "/stub"}, adapters={"kind": "shared", "host_path": str(adapters)}
    )
    environment = Environment.model_validate({"name": "production", **said})
    assert isinstance(environment.target, KubernetesTarget)
    values = dict(yaml.safe_load(as_yaml(chart_values(Place(environment, environment.target), "base", 4096))))
    values |= routes(f"tutor-{short(adapter.digest)}", adapter.digest)
    world = ChartWorld(there, namespace, values, adapter.digest)
    secret = ("-n", namespace, "create", "secret", "generic")
    words = (f"--from-literal=admin-token={TOKEN}", "--from-literal=upstream-key=k")
    there.kubectl(*secret, "slipway-production-gateway", *words)
    there.kubectl(*secret, "slipway-production-vllm", "--from-literal=key=k", "--from-literal=agent-token=a")
    try:
        world.does("install", chart=CHART, name=RELEASE, values=world.values)
        world.sync(world.values | {"upstreams": [world.url("vllm")]})  # there is no DNS
        yield world
    finally:
        world.does("uninstall", name=RELEASE, ignore_not_found=True)
        there.kubectl("delete", "namespace", namespace, "--wait=false")


def routes(adapter: str, digest: str) -> dict[str, Any]:
    """A route that serves the base model, and knows a variant with the adapter."""
    variants = {
        "base-1": {"model": "base", "system_prompt": "Answer shortly. " * 20},
        "tutor-1": {"model": adapter},
    }
    shown = {"policy": {"show_variant": True}}
    route = {"salt": "s", "base_model": "base", "base": "base-1", "variants": variants, **shown}
    return {"routing": "values", "adapters": {adapter: {"digest": digest}}, "routes": {"tutor": route}}
