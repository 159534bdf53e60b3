"""From environment.yaml to the chart's values: vLLM's words come from where the Kubernetes target has them.

Pure, but for the files of public keys and certificates that agents are to know.
"""

from typing import Any

from configs.environment import Environment
from configs.errors import ConfigError
from configs.gateway import GatewayConfig
from configs.gitops import ChartAgent, ChartGateways, ChartValues, ChartVllm
from configs.kubernetes import KubernetesTarget, PulledAdapters, SharedAdapters
from configs.project import Project
from tasks.serving.kubernetes.access import registry_port
from tasks.serving.kubernetes.names import AGENT_CONFIG, Place
from tasks.serving.kubernetes.pulled import agent_config
from tasks.serving.kubernetes.vllm_pod import vllm_variables, vllm_words

OF_A_POD = {"host", "admin_host", "table_state", "budget_state", "api_keys", "reuse_port", "table"}  # the chart's own

KEPT = {"port", "admin_port"}  # the chart opens them
DEFAULTS = GatewayConfig().model_dump(mode="json")


def values_of(project: Project) -> ChartValues:
    """Of a project whose environment is on a cluster. Raises ConfigError for another one."""
    target = project.environment.target
    if not isinstance(target, KubernetesTarget):
        raise ConfigError(
            f"the chart is for pods of a cluster, and target.kind is {target.kind}",
            where="environment.yaml: target.kind",
            cure="describe the pods as target.kind kubernetes has them",
        )
    return chart_values(Place(project.environment, target), project.model.name, project.model.max_context_tokens)


def chart_values(place: Place, model_name: str, context_tokens: int) -> ChartValues:
    """Everything but adapters and routes. `model_name`: what vLLM calls the base model."""
    target, environment = place.target, place.environment
    adapters = target.adapters
    if isinstance(adapters, SharedAdapters):
        adapters = adapters.model_copy(update={"here": None})
    return ChartValues(
        name=environment.name,
        images=target.images,
        base_model=target.base_model,
        adapter_files=adapters,
        agent=_agent(environment) if isinstance(adapters, PulledAdapters) else None,
        controllers=target.controllers,
        start_timeout_s=target.start_timeout_s,
        vllm=ChartVllm(
            **target.vllm.model_dump(),
            port=environment.vllm.port,
            ready_within_s=environment.vllm.start_timeout_s,
            arguments=tuple(vllm_words(place, model_name, context_tokens)),
            variables=vllm_variables(place),
        ),
        gateways=ChartGateways(
            **target.gateways.model_dump(),
            has_api_keys=environment.gateway.api_keys is not None,
            settings=_settings(environment.gateway),
        ),
    )


def _agent(environment: Environment) -> ChartAgent:
    """Every public key and certificate is written out: the file goes to a repository, and theirs do not."""
    settings, authority = agent_config(environment, AGENT_CONFIG)
    return ChartAgent(settings=settings, authority=authority, registry_port=registry_port(environment.registry))


def _settings(config: GatewayConfig) -> dict[str, Any]:
    said = config.model_dump(mode="json", exclude_none=True, exclude=OF_A_POD)
    return {name: value for name, value in said.items() if name in KEPT or value != DEFAULTS[name]}
