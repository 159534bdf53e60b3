"""One vLLM and its agent as a pod: the base model from where it is shared, adapters under their digests."""

from pathlib import Path
from typing import Any

from configs.kubernetes import PulledAdapters, SharedAdapters
from tasks.serving.kubernetes.names import (
    ADAPTERS,
    AGENT_CONFIG,
    AGENT_PORT,
    CONFIG,
    MODEL,
    Place,
    PullSettings,
    ResourceManifest,
)
from tasks.serving.kubernetes.podspec import container, deployment, leave_first, pod_spec, probe, resources
from tasks.serving.vllm_command import vllm_arguments, vllm_environment

FLAGS = ["--enable-lora", "--enable-prefix-caching", "--disable-uvicorn-access-log"]
PROBE_EVERY_S = 2
AGENT_FILE = "agent.yaml"
LOGIN = f"{CONFIG}/login"
ON_THIS_MACHINE = {"PYTHONPATH", "PYTHONSAFEPATH"}  # an image has its own


def vllm_deployment(
    place: Place, model_name: str, context_tokens: int, annotations: dict[str, str]
) -> ResourceManifest:
    """`model_name`: what vLLM calls the base model. `annotations`: change when the pods must be replaced."""
    pods = place.target.vllm
    containers = [_vllm(place, model_name, context_tokens), _agent(place)]
    volumes = [*_model_volume(place), _adapters_volume(place), *_scratch(place), *_registry_volumes(place)]
    more: dict[str, Any] = {"volumes": volumes}
    adapters = place.target.adapters
    if isinstance(adapters, SharedAdapters):
        more["initContainers"] = [_verified_first(place, ["--check"])]
    elif isinstance(adapters, PulledAdapters) and adapters.from_start:
        more["initContainers"] = [_verified_first(place, [f"--pull={digest}" for digest in adapters.from_start])]
    if pods.runtime_class is not None:
        more["runtimeClassName"] = pods.runtime_class
    return deployment(place, "vllm", pods, pod_spec(place, "vllm", pods, containers, **more), annotations)


def _vllm(place: Place, model_name: str, context_tokens: int) -> dict[str, Any]:
    config, pods = place.environment.vllm, place.target.vllm
    on_cpu = pods.gpus == 0
    words = vllm_words(place, model_name, context_tokens)
    devices = {} if on_cpu else {pods.gpu_resource: str(pods.gpus)}
    start = probe("/health", config.port, PROBE_EVERY_S, max(1, round(config.start_timeout_s / PROBE_EVERY_S)))
    mounts = [
        {"name": "adapters", "mountPath": ADAPTERS, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if place.target.base_model.in_image is None:
        sub_path = place.target.base_model.sub_path
        mounts.append(
            {"name": "model", "mountPath": MODEL, "readOnly": True} | ({"subPath": sub_path} if sub_path else {})
        )
    return container(
        place,
        "vllm",
        place.target.images.vllm,
        ["-m", "vllm.entrypoints.openai.api_server", *words],
        env=_vllm_env(place),
        ports=[{"name": "http", "containerPort": config.port}],
        resources=resources(pods, **devices),
        startupProbe=start,
        readinessProbe=probe("/health", config.port, PROBE_EVERY_S, 5),
        livenessProbe=probe("/health", config.port, 10, 6, timeout_s=10),
        lifecycle=leave_first(place),
        volumeMounts=mounts,
    )


def vllm_words(place: Place, model_name: str, context_tokens: int) -> list[str]:
    """What vLLM's API server is started with."""
    config = place.environment.vllm.model_copy(update={"host": "0.0.0.0"})  # noqa: S104 - a NetworkPolicy and a key guard it
    model = place.target.base_model.in_image or MODEL
    said = vllm_arguments(config, model_name, Path(model), context_tokens, place.target.vllm.gpus == 0)
    return [*(word for pair in said.items() for word in pair), *FLAGS, *config.extra_args]


def vllm_variables(place: Place) -> dict[str, str]:
    """What its process finds in its environment, but for its key."""
    threads = {"OMP_NUM_THREADS": _cores(place.target.vllm.cpu)}
    said = vllm_environment(place.environment.vllm, place.target.vllm.gpus == 0, threads)
    values = {name: value for name, value in said.items() if value is not None and name not in ON_THIS_MACHINE}
    return values | {"HOME": "/tmp"}  # noqa: S108 - the image's root is read-only


def _vllm_env(place: Place) -> list[dict[str, Any]]:
    key = {"secretKeyRef": {"name": f"{place.name}-vllm", "key": "key"}}
    said = [{"name": name, "value": value} for name, value in sorted(vllm_variables(place).items())]
    return [*said, {"name": "VLLM_API_KEY", "valueFrom": key}]


def _cores(cpu: str) -> str:
    """Whole cores of a request such as 2, 1.5 or 500m."""
    return str(max(1, round(float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu))))


def _agent(place: Place) -> dict[str, Any]:
    token = {"secretKeyRef": {"name": f"{place.name}-vllm", "key": "agent-token"}}
    arguments = [*_for_agent(place), "--port", str(AGENT_PORT)]
    is_shared = isinstance(place.target.adapters, SharedAdapters)
    return _agent_container(
        place,
        "agent",
        [*arguments, "--read-only"] if is_shared else arguments,
        env=[{"name": "SLIPWAY_AGENT_TOKEN", "valueFrom": token}],
        ports=[{"name": "agent", "containerPort": AGENT_PORT}],
        readinessProbe=probe("/healthz", AGENT_PORT, PROBE_EVERY_S, 5),
        livenessProbe=probe("/healthz", AGENT_PORT, 10, 6),
    )


def _verified_first(place: Place, words: list[str]) -> dict[str, Any]:
    """No vLLM starts beside adapters that are not what their names say, or before those that it must have."""
    return _agent_container(place, "verify", [*_for_agent(place), *words], env=[])


def _agent_container(
    place: Place, name: str, arguments: list[str], env: list[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    adapters = place.target.adapters
    pulls, is_shared = isinstance(adapters, PulledAdapters), isinstance(adapters, SharedAdapters)
    mounts = [
        {"name": "adapters", "mountPath": ADAPTERS} | ({"readOnly": True} if is_shared else {}),
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
    ]
    paths = {"registry": AGENT_CONFIG, "login": LOGIN}
    mounts += [
        {"name": volume["name"], "mountPath": paths[volume["name"]], "readOnly": True}
        for volume in _registry_volumes(place)
    ]
    if isinstance(adapters, PulledAdapters) and adapters.login_secret is not None:
        env = [*env, {"name": "DOCKER_CONFIG", "value": LOGIN}]
    memory = "512Mi" if pulls else "256Mi"  # what verifies signatures takes 130 MiB
    return container(
        place,
        name,
        place.target.images.gateway,
        ["-m", "delivery.agent", *arguments],
        env=env,
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": memory}},
        volumeMounts=mounts,
        **more,
    )


def _for_agent(place: Place) -> list[str]:
    pulls = isinstance(place.target.adapters, PulledAdapters)
    return ["--folder", ADAPTERS, *(["--config", f"{AGENT_CONFIG}/{AGENT_FILE}"] if pulls else [])]


def agent_config(place: Place, told: PullSettings) -> ResourceManifest:
    """What agents that pull read: nothing in it is a secret."""
    data = {AGENT_FILE: told.config} | ({"ca.pem": told.authority} if told.authority else {})
    return place.manifest("v1", "ConfigMap", f"{place.name}-agent", "vllm", data=data)


def _registry_volumes(place: Place) -> list[dict[str, Any]]:
    adapters = place.target.adapters
    if not isinstance(adapters, PulledAdapters):
        return []
    found: list[dict[str, Any]] = [{"name": "registry", "configMap": {"name": f"{place.name}-agent"}}]
    if adapters.login_secret is not None:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        found.append({"name": "login", "secret": {"secretName": adapters.login_secret, "items": items}})
    return found


def _model_volume(place: Place) -> list[dict[str, Any]]:
    model = place.target.base_model
    if model.claim is not None:
        return [{"name": "model", "persistentVolumeClaim": {"claimName": model.claim, "readOnly": True}}]
    if model.image is not None:
        pull = place.target.images.pull_policy
        return [{"name": "model", "image": {"reference": model.image, "pullPolicy": pull}}]
    if model.host_path is not None:
        return [{"name": "model", "hostPath": {"path": str(model.host_path), "type": "Directory"}}]
    return []


def _adapters_volume(place: Place) -> dict[str, Any]:
    adapters = place.target.adapters
    if not isinstance(adapters, SharedAdapters):
        return {"name": "adapters", "emptyDir": {"sizeLimit": adapters.room}}
    if adapters.claim is not None:
        return {"name": "adapters", "persistentVolumeClaim": {"claimName": adapters.claim, "readOnly": True}}
    return {"name": "adapters", "hostPath": {"path": str(adapters.host_path), "type": "Directory"}}


def _scratch(place: Place) -> list[dict[str, Any]]:
    shm = {"medium": "Memory", "sizeLimit": place.target.vllm.shared_memory}
    return [{"name": "tmp", "emptyDir": {}}, {"name": "shm", "emptyDir": shm}]
