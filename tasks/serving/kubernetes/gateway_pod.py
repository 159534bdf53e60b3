"""Gateways as pods: several alike under one controller. One without a routing table is not ready, and gets no users."""

from pathlib import Path
from typing import Any

from configs.gateway import GatewayConfig
from configs.loading import as_yaml
from tasks.serving.kubernetes.names import CONFIG, Place, ResourceManifest
from tasks.serving.kubernetes.podspec import container, deployment, leave_first, pod_spec, probe, resources

STATE = "/state"


def gateway_deployment(place: Place, annotations: dict[str, str]) -> ResourceManifest:
    """`annotations`: change when the pods must be replaced."""
    pods = place.target.gateways
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": f"{place.name}-gateway"}},
        {"name": "state", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if place.environment.gateway.api_keys is not None:
        volumes.append({"name": "keys", "secret": {"secretName": f"{place.name}-api-keys"}})
    spec = pod_spec(place, "gateway", pods, [_gateway(place, [volume["name"] for volume in volumes])], volumes=volumes)
    return deployment(place, "gateway", pods, spec, annotations)


def gateway_config(place: Place) -> ResourceManifest:
    """The file that every gateway reads."""
    text = as_yaml(in_a_pod(place.environment.gateway))
    return place.manifest("v1", "ConfigMap", f"{place.name}-gateway", "gateway", data={"gateway.yaml": text})


def gateway_service(place: Place) -> ResourceManifest:
    """Where users ask. The admin listeners have no Service: the controller talks to every gateway by itself."""
    port = {"name": "http", "protocol": "TCP", "port": 80, "targetPort": place.environment.gateway.port}
    spec = {"selector": place.matching("gateway"), "ports": [port]}
    return place.manifest("v1", "Service", f"{place.name}-gateway", "gateway", spec=spec)


def in_a_pod(config: GatewayConfig) -> GatewayConfig:
    """The environment's settings with a pod's addresses and folders."""
    state = Path(STATE)
    changed: dict[str, Any] = {"host": "0.0.0.0", "admin_host": "0.0.0.0", "table_state": state / "table.json"}  # noqa: S104
    if config.api_keys is not None:
        changed |= {"api_keys": Path(CONFIG) / "keys" / "api-keys.yaml", "budget_state": state / "budgets.json"}
    if config.traffic_log is not None:
        changed["traffic_log"] = config.traffic_log.model_copy(update={"folder": state / "traffic"})
    return config.model_copy(update=changed)


def _gateway(place: Place, volumes: list[str]) -> dict[str, Any]:
    config = place.environment.gateway
    env = {"SLIPWAY_ADMIN_TOKEN": "admin-token", "SLIPWAY_UPSTREAM_API_KEY": "upstream-key"}
    paths = {"config": CONFIG, "state": STATE, "tmp": "/tmp", "keys": f"{CONFIG}/keys"}  # noqa: S108
    read_only = {"config", "keys"}
    return container(
        place,
        "gateway",
        place.target.images.gateway,
        ["-m", "delivery.gateway", "--config", f"{CONFIG}/gateway.yaml"],
        env=[
            {"name": name, "valueFrom": {"secretKeyRef": {"name": f"{place.name}-gateway", "key": key}}}
            for name, key in env.items()
        ],
        ports=[
            {"name": "http", "containerPort": config.port},
            {"name": "admin", "containerPort": config.admin_port},
        ],
        resources=resources(place.target.gateways),
        startupProbe=probe("/healthz", config.port, 1, 60),
        readinessProbe=probe("/readyz", config.port, 2, 2),
        livenessProbe=probe("/healthz", config.port, 10, 6),
        lifecycle=leave_first(place),
        volumeMounts=[
            {"name": name, "mountPath": paths[name]} | ({"readOnly": True} if name in read_only else {})
            for name in volumes
        ],
    )
