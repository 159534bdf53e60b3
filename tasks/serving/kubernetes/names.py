"""What everything of one environment is called in its namespace, where it listens, and what its containers see."""

from dataclasses import dataclass, field
from typing import Any

from configs.environment import Environment
from configs.kubernetes import KubernetesTarget

FIELD_MANAGER = "slipway"
AGENT_PORT = 8010
ADAPTERS = "/adapters"  # as vLLM and its agent see it
MODEL = "/model"
CONFIG = "/etc/slipway"
AGENT_CONFIG = f"{CONFIG}/agent"
USER = 10001
COMPONENT = "app.kubernetes.io/component"
ResourceManifest = dict[str, Any]


@dataclass(frozen=True)
class Offered:
    """Which version of an API this cluster offers; the newest by default."""

    pod_disruption_budget: str = "policy/v1"
    autoscaler: str = "autoscaling/v2"


@dataclass(frozen=True)
class Secrets:
    """What pods get as Secrets. Nothing here is ever shown."""

    admin_token: str = field(repr=False)
    vllm_key: str = field(repr=False)
    agent_token: str = field(repr=False)
    api_keys: str | None = field(default=None, repr=False)  # the file's text


@dataclass(frozen=True)
class PullSettings:
    """What agents that pull are told: their file, and the registry's private authority."""

    config: str
    authority: str = ""


@dataclass(frozen=True)
class Place:
    """An environment's settings and the target among them."""

    environment: Environment
    target: KubernetesTarget

    @property
    def name(self) -> str:
        """The beginning of every name."""
        return f"slipway-{self.environment.name}"

    @property
    def selector(self) -> str:
        """Finds all that is ours in the namespace."""
        return f"app.kubernetes.io/managed-by=slipway,app.kubernetes.io/instance={self.environment.name}"

    def labels(self, component: str) -> dict[str, str]:
        """Those of a Deployment, its pods, and whatever belongs to them."""
        return {
            "app.kubernetes.io/name": "slipway",
            "app.kubernetes.io/instance": self.environment.name,
            COMPONENT: component,
            "app.kubernetes.io/managed-by": "slipway",
        }

    def matching(self, component: str) -> dict[str, str]:
        """What a selector asks for: it can never be changed afterwards."""
        return {"app.kubernetes.io/instance": self.environment.name, COMPONENT: component}

    def manifest(self, api_version: str, kind: str, name: str, component: str, **content: object) -> ResourceManifest:
        """One resource of this namespace."""
        metadata = {"name": name, "namespace": self.target.namespace, "labels": self.labels(component)}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}
