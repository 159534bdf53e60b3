"""From what the API server says of Deployments, pods and events: who is ready, and why each other one is not. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from delivery.clients.kubernetes import Resource
from tasks.serving.kubernetes.names import COMPONENT
from tasks.serving.target import PartState

COMPONENTS = ("vllm", "gateway")
NO_REASON = ("MissingClusterDNS", "FailedKillPod")  # warnings after which a pod starts all the same
HINTS = {
    "ImagePullBackOff": "see that the image is there under this digest, and target.images.pull_secrets",
    "ErrImagePull": "see that the image is there under this digest, and target.images.pull_secrets",
    "ErrImageNeverPull": "the node does not have this image: load it there, or set target.images.pull_policy",
    "InvalidImageName": "correct target.images",
    "Unschedulable": "make room, or ask for less: target.vllm or target.gateways",
    "FailedCreate": "raise the namespace's quota, or ask for less: target.vllm or target.gateways",
    "CrashLoopBackOff": "its own last words say why: kubectl logs --previous",
    "NodeNotReady": "its node does not answer: the cluster replaces the pod when it gives the node up",
    "CreateContainerConfigError": "a Secret or ConfigMap that it reads is missing: run `slipway up` again",
}


class Ports(NamedTuple):
    """Where pods listen: vLLM, and a gateway's admin side."""

    vllm: int
    admin: int


def component_of(resource: Resource) -> str:
    """`vllm`, `gateway`, or something else."""
    return str((resource["metadata"].get("labels") or {}).get(COMPONENT, ""))


def replicas(pods: Iterable[Resource], ports: Ports) -> tuple[str, ...]:
    """Base URLs of the vLLM pods that are ready, and stay."""
    return _urls((pod for pod in pods if component_of(pod) == "vllm" and is_ready(pod)), ports.vllm)


def gateways(pods: Iterable[Resource], ports: Ports) -> tuple[str, ...]:
    """Admin URLs of the gateway pods that run and stay. One without a table is not ready: it needs ours to be."""
    running = (pod for pod in pods if component_of(pod) == "gateway" and _is_running(pod))
    return _urls(running, ports.admin)


def states(
    deployments: Sequence[Resource], pods: Sequence[Resource], events: Iterable[Resource], ports: Ports
) -> tuple[PartState, ...]:
    """One for each pod that is wanted: those that are there, and those that could not be made."""
    latest = _last_warnings(events)
    found: list[PartState] = []
    for component in COMPONENTS:
        port = ports.vllm if component == "vllm" else ports.admin
        there = sorted((p for p in pods if component_of(p) == component and not _is_over(p)), key=_name)
        staying = [pod for pod in there if not _is_leaving(pod)]
        found += [_state(component, pod, port, latest) for pod in staying]
        deployment = next((one for one in deployments if component_of(one) == component), None)
        wanted = int(deployment["spec"].get("replicas", 1)) if deployment is not None else 0
        for _ in range(wanted - len(staying)):
            reason = _why_not_made(deployment, there, latest)
            place = f"deployment/{_name(deployment)}" if deployment is not None else component
            found.append(PartState(component, place, running=False, healthy=False, pid=None, log="", reason=reason))
        if deployment is None:
            reason = "there is no such Deployment -> run `slipway up`"
            found.append(PartState(component, component, running=False, healthy=False, pid=None, log="", reason=reason))
    return tuple(found)


def is_ready(pod: Resource) -> bool:
    """Whether it may be sent users: by its own probes, on a node that answers, and not about to end."""
    return not _is_leaving(pod) and bool(_address(pod)) and _condition(pod, "Ready").get("status") == "True"


def is_staying(pod: Resource) -> bool:
    """Whether it lives, and nobody has asked for its end."""
    return not (_is_leaving(pod) or _is_over(pod))


def why_not_ready(pod: Resource, latest: Mapping[str, Resource]) -> str:
    """The reason of one pod, in the cluster's words, and what to do about it."""
    status = pod.get("status") or {}
    if status.get("reason"):  # Evicted, NodeLost, ...
        return _said(str(status["reason"]), str(status.get("message", "")))
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _said(str(scheduled.get("reason", "Unschedulable")), str(scheduled.get("message", "")))
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        reason = _why_not_running(container)
        if reason:
            return reason
    warning = latest.get(_name(pod))
    if warning is not None:
        return _said(str(warning.get("reason", "")), str(warning.get("message", "")))
    ready = _condition(pod, "Ready")
    if ready.get("status") == "Unknown" or ready.get("reason") == "NodeLost":
        node = (pod.get("spec") or {}).get("nodeName", "its node")
        return f"{node} does not answer: the cluster replaces the pod when it gives the node up"
    return "it is starting"


def _state(component: str, pod: Resource, port: int, latest: Mapping[str, Resource]) -> PartState:
    ready = is_ready(pod)
    url, named = f"pod/{_name(pod)}", ""
    if _address(pod):
        url, named = f"http://{_bracketed(_address(pod))}:{port}", f"pod {_name(pod)}: "
    reason = "" if ready else f"{named}{why_not_ready(pod, latest)}"
    return PartState(component, url, _is_running(pod), ready, pid=None, log="", reason=reason)


def _why_not_running(container: Resource) -> str:
    """Of one container that waits, or that has ended and did not come back."""
    name, state = container["name"], container.get("state") or {}
    waiting, last = state.get("waiting"), (container.get("lastState") or {}).get("terminated")
    if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        text = str(waiting.get("message", ""))
        if last:
            text = f"{_how_it_ended(last)}; {container.get('restartCount', 0)} restarts"
        return _said(f"{waiting['reason']}", f"container {name}: {text}")
    ended = state.get("terminated")
    if ended and (ended.get("exitCode") or ended.get("reason") == "OOMKilled"):
        return _said(str(ended.get("reason", "Error")), f"container {name}: {_how_it_ended(ended)}")
    if "running" in state and last and not container.get("ready"):
        return f"container {name} was restarted ({_how_it_ended(last)}) and is starting"
    return ""


def _how_it_ended(ended: Resource) -> str:
    words = str(ended.get("message", "")).strip().splitlines()
    last = f": {words[-1][:300]}" if words else ""
    return f"{ended.get('reason', 'ended')} with exit code {ended.get('exitCode')}{last}"


def _why_not_made(deployment: Resource | None, there: Sequence[Resource], latest: Mapping[str, Resource]) -> str:
    if deployment is not None:
        for condition in (deployment.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                return _said(str(condition.get("reason", "")), str(condition.get("message", "")))
        if any(_is_leaving(pod) for pod in there):
            return "a pod is ending, and its replacement is about to be made"
    return "the cluster has not made it yet"


def _said(reason: str, message: str) -> str:
    text = f"{reason}: {message}" if reason and message else reason or message
    hint = HINTS.get(reason, "")
    return f"{text} -> {hint}" if hint else text


def _last_warnings(events: Iterable[Resource]) -> dict[str, Resource]:
    """By pod, its newest warning."""
    found: dict[str, Resource] = {}
    for event in sorted(events, key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or "")):
        if event.get("type") == "Warning" and event.get("reason") not in NO_REASON:
            found[str(event["involvedObject"].get("name"))] = event
    return found


def _urls(pods: Iterable[Resource], port: int) -> tuple[str, ...]:
    return tuple(f"http://{_bracketed(_address(pod))}:{port}" for pod in sorted(pods, key=_name) if _address(pod))


def _is_running(pod: Resource) -> bool:
    """Whether its container runs, ready or not, and nobody has asked for its end."""
    if not is_staying(pod):
        return False
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return bool(statuses) and all("running" in (one.get("state") or {}) for one in statuses)


def _is_leaving(pod: Resource) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _is_over(pod: Resource) -> bool:
    """Evicted and ended pods stay in the list; others have taken their place."""
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def _condition(pod: Resource, kind: str) -> Resource:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def _address(pod: Resource) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _name(resource: Resource) -> str:
    return str(resource["metadata"]["name"])
