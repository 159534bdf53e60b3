"""Who may do what: pods nothing in the cluster, a controller what it needs to read, and only gateways reach vLLM."""

from typing import Any

from configs.kubernetes import PulledAdapters
from configs.registry import RegistryConfig
from tasks.serving.kubernetes.names import AGENT_PORT, Place, ResourceManifest, Secrets

RBAC = "rbac.authorization.k8s.io"


def accounts(place: Place) -> list[ResourceManifest]:
    """The pods' account, which has no rights, and the one for a controller in the cluster, which reads."""
    controller = f"{place.name}-controller"
    rules = [
        {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [place.name],
            "verbs": ["get"],
        },
    ]
    role_ref = {"apiGroup": RBAC, "kind": "Role", "name": controller}
    subjects = [{"kind": "ServiceAccount", "name": controller, "namespace": place.target.namespace}]
    account = {"automountServiceAccountToken": False}
    return [
        place.manifest("v1", "ServiceAccount", f"{place.name}-pods", "pods", **account),
        place.manifest("v1", "ServiceAccount", controller, "controller"),
        place.manifest(f"{RBAC}/v1", "Role", controller, "controller", rules=rules),
        place.manifest(f"{RBAC}/v1", "RoleBinding", controller, "controller", roleRef=role_ref, subjects=subjects),
    ]


def secrets(place: Place, given: Secrets) -> list[ResourceManifest]:
    """For gateways their token and vLLM's key; for vLLM its key, and its agent's token."""
    gateway = {"admin-token": given.admin_token, "upstream-key": given.vllm_key}
    vllm = {"key": given.vllm_key, "agent-token": given.agent_token}
    found = [
        place.manifest("v1", "Secret", f"{place.name}-gateway", "gateway", type="Opaque", stringData=gateway),
        place.manifest("v1", "Secret", f"{place.name}-vllm", "vllm", type="Opaque", stringData=vllm),
    ]
    if given.api_keys is not None:
        keys = {"api-keys.yaml": given.api_keys}
        name = f"{place.name}-api-keys"
        found.append(place.manifest("v1", "Secret", name, "gateway", type="Opaque", stringData=keys))
    return found


def network_policies(place: Place) -> list[ResourceManifest]:
    """vLLM hears gateways and controllers; a gateway's admin listener hears controllers.

    vLLM's pods ask nobody, but their registry where they pull.
    """
    vllm, admin = place.environment.vllm.port, place.environment.gateway.admin_port
    gateways = {"podSelector": {"matchLabels": place.matching("gateway")}}
    controllers: list[dict[str, Any]] = [{"podSelector": {"matchLabels": place.matching("controller")}}]
    controllers += [{"ipBlock": {"cidr": cidr}} for cidr in place.target.controllers]
    to_vllm = [
        {"from": [gateways, *controllers], "ports": [_tcp(vllm)]},
        {"from": controllers, "ports": [_tcp(AGENT_PORT)]},
    ]
    to_gateways = [
        {"ports": [_tcp(place.environment.gateway.port)]},
        {"from": controllers, "ports": [_tcp(admin)]},
    ]
    return [
        _policy(place, "vllm", policyTypes=["Ingress", "Egress"], ingress=to_vllm, egress=_to_registry(place)),
        _policy(place, "gateway", policyTypes=["Ingress"], ingress=to_gateways),
    ]


def _to_registry(place: Place) -> list[dict[str, Any]]:
    """The port that its name ends in, and whoever says what address the name has."""
    adapters = place.target.adapters
    if not isinstance(adapters, PulledAdapters):
        return []
    ports = [_tcp(registry_port(place.environment.registry))]
    networks = [{"ipBlock": {"cidr": cidr}} for cidr in adapters.registry_networks]
    names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return [{"ports": ports} | ({"to": networks} if networks else {}), {"ports": names}]


def registry_port(registry: RegistryConfig) -> int:
    """The port at the end of its name, else the one of its protocol."""
    port = str(registry.repository).partition("/")[0].rpartition(":")[2]
    return int(port) if port.isdigit() else 80 if registry.plain_http else 443


def ownership(place: Place, owner: str) -> ResourceManifest:
    """Names the ledger whose controllers may change what is here."""
    spec = {"holderIdentity": owner}
    return place.manifest("coordination.k8s.io/v1", "Lease", place.name, "controller", spec=spec)


def _policy(place: Place, component: str, **rules: Any) -> ResourceManifest:
    spec = {"podSelector": {"matchLabels": place.matching(component)}, **rules}
    return place.manifest("networking.k8s.io/v1", "NetworkPolicy", f"{place.name}-{component}", component, spec=spec)


def _tcp(port: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}
