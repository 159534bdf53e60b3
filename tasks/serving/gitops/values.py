"""From environment.yaml to the chart's values: vLLM's words come from where the Kubernetes target has them. Pure."""

from typing import Any

from configs.errors import ConfigError
from configs.gateway import GatewayConfig
from configs.gitops import ChartGateways, ChartValues, ChartVllm
from configs.kubernetes import KubernetesTarget, PulledAdapters, SharedAdapters
from configs.project import Project
from tasks.serving.kubernetes.names import Place
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
    if isinstance(adapters, PulledAdapters):
        raise ConfigError(
            "the chart has no adapters that pods pull by themselves",
            where="environment.yaml: target.adapters.kind",
            cure="use sent or shared, or have `slipway up` apply the pods",
        )
    if isinstance(adapters, SharedAdapters):
        adapters = adapters.model_copy(update={"here": None})
    return ChartValues(
        name=environment.name,
        images=target.images,
        base_model=target.base_model,
        adapter_files=adapters,
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


def _settings(config: GatewayConfig) -> dict[str, Any]:
    said = config.model_dump(mode="json", exclude_none=True, exclude=OF_A_POD)
    return {name: value for name, value in said.items() if name in KEPT or value != DEFAULTS[name]}
