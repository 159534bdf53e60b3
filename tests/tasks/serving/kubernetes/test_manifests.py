"""From settings to manifests: valid on current clusters, without rights, and nobody but gateways and controllers in."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_places import IMAGES, ON_A_GPU, TOKENS, WAYS, place

from configs.environment import Environment
from configs.kubernetes import GatewayPods
from tasks.serving.kubernetes.manifests import manifests
from tasks.serving.kubernetes.names import Offered, Place, PullSettings, ResourceManifest, Secrets
from tasks.serving.kubernetes.pods import Ports, states


def rendered(offered: Offered | None = None, given: Secrets = TOKENS, **target: Any) -> list[ResourceManifest]:
    pulls = target.get("adapters", {}).get("kind") == "pulled"
    told = PullSettings("registry: {}", "an authority") if pulls else None
    return manifests(place(**target), "base", 2048, given, "ledger-1", offered or Offered(), told)


def one(found: list[ResourceManifest], kind: str, name: str = "") -> ResourceManifest:
    named = [m for m in found if m["kind"] == kind and m["metadata"]["name"].endswith(name)]
    assert len(named) == 1, [m["metadata"]["name"] for m in found if m["kind"] == kind]
    return named[0]


def containers(found: list[ResourceManifest]) -> list[dict[str, Any]]:
    specs = [m["spec"]["template"]["spec"] for m in found if m["kind"] == "Deployment"]
    return [c for spec in specs for c in (*spec.get("initContainers", ()), *spec["containers"])]


@pytest.mark.parametrize("target", WAYS.values(), ids=WAYS.keys())
def test_every_manifest_is_valid_by_the_schemas_of_a_current_cluster(target: dict[str, Any]) -> None:
    for manifest in rendered(**target):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_where_another_member_has_the_gateways_no_pod_is_asked_for_and_none_is_missed() -> None:
    rack = {"kind": "external", "replicas": ["http://r:1"], "gateways": ["http://g:1"], "adapters_on_replicas": "/a"}
    pods_alone = place().target.model_copy(update={"gateways": GatewayPods(replicas=0)})
    members = {"pods": pods_alone.model_dump(mode="json"), "rack": rack}
    environment = Environment.model_validate({"target": {"kind": "combined", "members": members}})
    there = Place(environment.heeded_by(pods_alone), pods_alone)
    found = manifests(there, "base", 2048, TOKENS, "ledger-1", Offered())
    for manifest in found:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    gateway = one(found, "Deployment", "-gateway")
    assert gateway["spec"]["replicas"] == 0
    assert [m["metadata"]["name"] for m in found if m["kind"] == "PodDisruptionBudget"] == ["slipway-local-vllm"]
    parts = states([one(found, "Deployment", "-vllm"), gateway], [], [], Ports(8100, 8001))
    assert {part.name for part in parts} == {"vllm"}


@pytest.mark.parametrize("target", WAYS.values(), ids=WAYS.keys())
def test_no_container_can_write_to_its_image_or_become_more_than_a_plain_user(target: dict[str, Any]) -> None:
    found = rendered(**target)
    for container in containers(found):
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
    for deployment in (m for m in found if m["kind"] == "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False


def test_secrets_are_in_secrets_alone() -> None:
    found = rendered(given=Secrets("an-admin-token", "a-vllm-key", "an-agent-token", "keys: []"))
    others = json.dumps([m for m in found if m["kind"] != "Secret"])
    assert not any(word in others for word in ("an-admin-token", "a-vllm-key", "an-agent-token"))
    assert repr(TOKENS) == "Secrets()"


def test_gateways_alone_reach_vllm_and_controllers_alone_its_agent_and_the_admin_listener() -> None:
    found = rendered(**ON_A_GPU)
    vllm = one(found, "NetworkPolicy", "-vllm")["spec"]
    gateways = {"podSelector": {"matchLabels": place().matching("gateway")}}
    by_port = {rule["ports"][0]["port"]: rule["from"] for rule in vllm["ingress"]}
    assert gateways in by_port[8100]
    assert gateways not in by_port[8010]
    assert {"ipBlock": {"cidr": "10.0.0.0/24"}} in by_port[8010]
    assert vllm["egress"] == []
    to_gateways = one(found, "NetworkPolicy", "-gateway")["spec"]["ingress"]
    assert {rule["ports"][0]["port"]: "from" in rule for rule in to_gateways} == {8000: False, 8001: True}


def test_a_controller_in_the_cluster_may_read_and_nothing_else() -> None:
    rules = one(rendered(), "Role")["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list"}
    assert not any("secrets" in rule["resources"] for rule in rules)


def test_an_autoscaled_deployment_leaves_its_number_to_the_autoscaler() -> None:
    found = rendered(**ON_A_GPU)
    assert "replicas" not in one(found, "Deployment", "-vllm")["spec"]
    assert one(found, "HorizontalPodAutoscaler", "-gateway")["spec"]["minReplicas"] == 3
    assert one(rendered(), "Deployment", "-vllm")["spec"]["replicas"] == 2


def test_versions_are_those_that_the_cluster_offers() -> None:
    found = rendered(Offered("policy/v1beta1", "autoscaling/v2beta2"), **ON_A_GPU)
    versions = {m["kind"]: m["apiVersion"] for m in found}
    assert versions["PodDisruptionBudget"] == "policy/v1beta1"
    assert versions["HorizontalPodAutoscaler"] == "autoscaling/v2beta2"


def test_one_pod_alone_gets_no_budget_that_would_keep_its_node_from_being_drained() -> None:
    found = rendered(**WAYS["on one node"])
    assert [m["metadata"]["name"] for m in found if m["kind"] == "PodDisruptionBudget"] == [
        "slipway-production-gateway"
    ]


def test_another_secret_replaces_the_pods_that_read_it_and_no_others() -> None:
    def annotations(given: Secrets) -> list[str]:
        found = rendered(given=given)
        metadata = [one(found, "Deployment", name)["spec"]["template"]["metadata"] for name in ("-vllm", "-gateway")]
        return [one["annotations"]["slipway/reads"] for one in metadata]

    before, after = annotations(TOKENS), annotations(Secrets("another-admin-token", "a-vllm-key", "an-agent-token"))
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


def test_adapters_on_a_shared_volume_are_checked_before_vllm_starts_and_can_be_written_by_no_container() -> None:
    spec = one(rendered(**WAYS["shared"]), "Deployment", "-vllm")["spec"]["template"]["spec"]
    assert spec["initContainers"][0]["command"][-1] == "--check"
    mounts = [m for c in (*spec["initContainers"], *spec["containers"]) for m in c["volumeMounts"]]
    assert all(m.get("readOnly") for m in mounts if m["name"] == "adapters")


def test_pods_that_pull_have_the_login_and_the_authority_and_may_ask_the_registry_alone() -> None:
    found = rendered(**WAYS["pulled"])
    spec = one(found, "Deployment", "-vllm")["spec"]["template"]["spec"]
    agent, verify = spec["containers"][1], spec["initContainers"][0]
    assert verify["command"][-1] == "--pull=sha256:" + "1" * 64
    for container in (agent, verify):
        assert {"name": "DOCKER_CONFIG", "value": "/etc/slipway/login"} in container["env"]
        read_only = {mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")}
        assert read_only == {"/etc/slipway/agent", "/etc/slipway/login"}
    assert {"name": "adapters", "mountPath": "/adapters", "readOnly": True} in spec["containers"][0]["volumeMounts"]
    assert one(found, "ConfigMap", "-agent")["data"] == {"agent.yaml": "registry: {}", "ca.pem": "an authority"}
    egress = one(found, "NetworkPolicy", "-vllm")["spec"]["egress"]
    assert egress[0] == {
        "ports": [{"protocol": "TCP", "port": 5000}],
        "to": [{"ipBlock": {"cidr": "10.9.0.0/24"}}],
    }
    assert {port["port"] for port in egress[1]["ports"]} == {53}


def test_another_policy_replaces_the_pods_that_verify_by_it() -> None:
    annotations = []
    for text in ("signatures: {required: true}", "signatures: {required: false}"):
        found = manifests(place(**WAYS["pulled"]), "base", 2048, TOKENS, "ledger-1", Offered(), PullSettings(text))
        annotations.append(one(found, "Deployment", "-vllm")["spec"]["template"]["metadata"]["annotations"])
    assert annotations[0] != annotations[1]


def test_pods_that_pull_from_nowhere_are_refused() -> None:
    said = {"kind": "kubernetes", "namespace": "a", "images": IMAGES, "base_model": {"claim": "base"}}
    with pytest.raises(ValueError, match=r"no registry is named -> registry\.repository"):
        Environment.model_validate({"target": said | {"adapters": {"kind": "pulled"}}})


def test_vllm_is_started_as_environment_yaml_says_and_is_told_of_its_gpus() -> None:
    vllm = one(rendered(**ON_A_GPU), "Deployment", "-vllm")["spec"]["template"]["spec"]["containers"][0]
    words = vllm["command"]
    assert words[words.index("--model") + 1] == "/model"
    assert words[words.index("--max-model-len") + 1] == "2048"
    assert words[words.index("--host") + 1] == "0.0.0.0"
    assert vllm["resources"]["limits"]["nvidia.com/gpu"] == "2"
    on_cpu = one(rendered(**WAYS["on one node"]), "Deployment", "-vllm")["spec"]["template"]["spec"]["containers"][0]
    assert "nvidia.com/gpu" not in on_cpu["resources"]["limits"]
    assert {"name": "OMP_NUM_THREADS", "value": "2"} in on_cpu["env"]
    assert str(Path.cwd()) not in json.dumps(on_cpu)
