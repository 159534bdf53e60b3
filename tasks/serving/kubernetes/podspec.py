"""What the pods of both Deployments have in common: hardening, spreading, scaling, and no rights in the cluster."""

from typing import Any

from configs.kubernetes import Pods
from tasks.serving.kubernetes.names import USER, Offered, Place, ResourceManifest

GRACE_S = 60
LEAVE_S = 5  # between a pod's end being asked for and its processes being told: routes go first


def deployment(
    place: Place, component: str, pods: Pods, spec: dict[str, Any], annotations: dict[str, str]
) -> ResourceManifest:
    """A Deployment that never has fewer ready pods than asked for while it changes.

    With an autoscaler the number of replicas is the autoscaler's, and is not applied.
    """
    replicas = {} if pods.max_replicas is not None else {"replicas": pods.replicas}
    template = {"metadata": {"labels": place.labels(component), "annotations": annotations}, "spec": spec}
    return place.manifest(
        "apps/v1",
        "Deployment",
        f"{place.name}-{component}",
        component,
        spec={
            **replicas,
            "selector": {"matchLabels": place.matching(component)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": max(60, int(place.target.start_timeout_s)),
            "template": template,
        },
    )


def pod_spec(place: Place, component: str, pods: Pods, containers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Not root, no token of the API server, one pod a node where there are enough."""
    spec: dict[str, Any] = {
        "serviceAccountName": f"{place.name}-pods",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": place.matching(component)},
            }
        ],
        "containers": containers,
        **more,
    }
    images = place.target.images
    if images.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in images.pull_secrets]
    if pods.node_selector:
        spec["nodeSelector"] = dict(pods.node_selector)
    if pods.tolerations:
        spec["tolerations"] = [one.model_dump(exclude_none=True) for one in pods.tolerations]
    return spec


def container(place: Place, name: str, image: str, arguments: list[str], **more: Any) -> dict[str, Any]:
    """A read-only root, no rights beyond a plain user's, and its output as the reason when it fails."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": place.target.images.pull_policy,
        "command": [place.target.images.python, *arguments],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **more,
    }


def leave_first(place: Place) -> dict[str, Any]:
    """Waits before the process is told to end, so that nobody is sent to it any more when it is."""
    wait = f"import time; time.sleep({LEAVE_S})"
    return {"preStop": {"exec": {"command": [place.target.images.python, "-c", wait]}}}


def resources(pods: Pods, **devices: str) -> dict[str, Any]:
    """What a container asks for. Memory has a limit; CPU has none, which would only slow down whoever needs it."""
    return {
        "requests": {"cpu": pods.cpu, "memory": pods.memory, **devices},
        "limits": {"memory": pods.memory, **devices},
    }


def probe(path: str, port: int, period_s: int, failures: int, timeout_s: int = 3) -> dict[str, Any]:
    """An HTTP probe."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period_s,
        "failureThreshold": failures,
        "timeoutSeconds": timeout_s,
    }


def disruption_budget(place: Place, component: str, offered: Offered) -> ResourceManifest:
    """A drained node takes one pod at a time."""
    return place.manifest(
        offered.pod_disruption_budget,
        "PodDisruptionBudget",
        f"{place.name}-{component}",
        component,
        spec={"maxUnavailable": 1, "selector": {"matchLabels": place.matching(component)}},
    )


def autoscaler(place: Place, component: str, pods: Pods, offered: Offered) -> ResourceManifest:
    """Keeps the number of replicas between the two that are said, by CPU."""
    use = {"type": "Utilization", "averageUtilization": pods.target_cpu_percent}
    return place.manifest(
        offered.autoscaler,
        "HorizontalPodAutoscaler",
        f"{place.name}-{component}",
        component,
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{place.name}-{component}"},
            "minReplicas": pods.replicas,
            "maxReplicas": pods.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": use}}],
        },
    )
