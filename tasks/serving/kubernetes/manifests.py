"""From an environment's settings to everything that is applied to its namespace, in the order of application. Pure."""

import hashlib
import json

from tasks.serving.kubernetes.access import accounts, network_policies, ownership, secrets
from tasks.serving.kubernetes.gateway_pod import gateway_config, gateway_deployment, gateway_service
from tasks.serving.kubernetes.names import Offered, Place, PullSettings, ResourceManifest, Secrets
from tasks.serving.kubernetes.podspec import autoscaler, disruption_budget
from tasks.serving.kubernetes.vllm_pod import agent_config, vllm_deployment


def manifests(
    place: Place,
    model_name: str,
    context_tokens: int,
    given: Secrets,
    owner: str,
    offered: Offered,
    told: PullSettings | None = None,
) -> list[ResourceManifest]:
    """All of them. `owner` names the ledger; `offered` is what the cluster's API server has, `told` is for its agents.

    Pods carry a digest of what they read when they start, so that another secret or setting replaces them.
    """
    config, hidden = gateway_config(place), secrets(place, given)
    gateway_reads = {"slipway/reads": _digest([config, hidden[0], *hidden[2:]])}
    for_agents = [] if told is None else [agent_config(place, told)]
    vllm_reads = {"slipway/reads": _digest([hidden[1], *for_agents])}
    target = place.target
    found = [ownership(place, owner), *accounts(place), *network_policies(place), *hidden, config, *for_agents]
    found += [
        gateway_service(place),
        vllm_deployment(place, model_name, context_tokens, vllm_reads),
        gateway_deployment(place, gateway_reads),
    ]
    for component, pods in (("vllm", target.vllm), ("gateway", target.gateways)):
        if pods.replicas > 1:  # with one pod it would keep a node from ever being drained
            found.append(disruption_budget(place, component, offered))
        if pods.max_replicas is not None:
            found.append(autoscaler(place, component, pods, offered))
    return found


def _digest(read: list[ResourceManifest]) -> str:
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]
