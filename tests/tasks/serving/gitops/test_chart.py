"""The chart is what the Kubernetes target applies, is valid on current clusters, and is strict about its values."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm import CHART, HelmError, helm, rendered
from kubernetes_places import DIGEST, IMAGES, TOKENS, WAYS, place

from configs.agent import AgentConfig
from configs.gateway import GatewayConfig
from configs.gitops import ChartValues, values_schema
from configs.kubernetes import PulledAdapters
from configs.loading import as_yaml
from configs.routing import RoutingTable
from tasks.serving.gitops.values import chart_values
from tasks.serving.kubernetes.manifests import manifests
from tasks.serving.kubernetes.names import AGENT_CONFIG, Offered, Place, PullSettings, ResourceManifest
from tasks.serving.kubernetes.pulled import agent_config

NOT_IN_GIT = {"Secret", "Lease"}  # secrets are made beside the chart; the lease is the controller's
ADAPTER = "sha256:" + "a" * 64
ROUTES: dict[str, Any] = {
    "routing": "values",
    "adapter_files": {"kind": "shared", "claim": "adapters"},
    "adapters": {"tutor-aaaaaaaaaaaa": {"digest": ADAPTER}},
    "routes": {
        "tutor": {
            "salt": "a-salt",
            "base_model": "base",
            "base": "base-1",
            "default": "base-1",
            "candidate": {"variant": "tutor-1", "mode": "canary", "share_percent": 12.5},
            "variants": {
                "base-1": {"model": "base", "system_prompt": 'Answer: {shortly}\nand "well".'},
                "tutor-1": {"model": "tutor-aaaaaaaaaaaa", "temperature": 0.2},
            },
        }
    },
}


def as_values(said: ChartValues) -> dict[str, Any]:
    """As the file has them."""
    return dict(yaml.safe_load(as_yaml(said)))


def values(**more: Any) -> dict[str, Any]:
    """The smallest environment's, and what is said over it."""
    return as_values(chart_values(place(), "base", 2048)) | more


def routed(**route: Any) -> dict[str, Any]:
    """Served by values, with something else about the route."""
    return values(**ROUTES) | {"routes": {"tutor": ROUTES["routes"]["tutor"] | route}}


def table(found: list[ResourceManifest]) -> RoutingTable:
    """What the gateways would serve."""
    [text] = [m["data"]["table.yaml"] for m in found if "table.yaml" in m.get("data", {})]
    return RoutingTable.model_validate(yaml.safe_load(text))


def comparable(found: list[ResourceManifest]) -> dict[str, ResourceManifest]:
    """By kind and name. The gateway's file is what it reads as; the digests of what pods read are made in two ways."""
    kept = {}
    for one in json.loads(json.dumps([m for m in found if m["kind"] not in NOT_IN_GIT])):
        if one["kind"] == "Deployment":
            one["spec"]["template"]["metadata"].pop("annotations", None)
        if "agent.yaml" in one.get("data", {}):
            said = yaml.safe_load(one["data"]["agent.yaml"])
            one["data"]["agent.yaml"] = AgentConfig.model_validate(said).model_dump(mode="json")
        elif one["kind"] == "ConfigMap":
            said = yaml.safe_load(one["data"]["gateway.yaml"])
            one["data"] = GatewayConfig.model_validate(said).model_dump(mode="json")
        kept[f"{one['kind']}/{one['metadata']['name']}"] = one
    return kept


def applied(there: Place) -> dict[str, ResourceManifest]:
    """By the Kubernetes target."""
    told = None
    if isinstance(there.target.adapters, PulledAdapters):
        config, authority = agent_config(there.environment, AGENT_CONFIG)
        told = PullSettings(as_yaml(config), authority)
    return comparable(manifests(there, "base", 2048, TOKENS, "ledger-1", Offered(), told))


@pytest.mark.parametrize("way", WAYS)
def test_the_chart_is_what_the_kubernetes_target_applies(way: str) -> None:
    there = place(**WAYS[way])
    ours, theirs = comparable(rendered(as_values(chart_values(there, "base", 2048)))), applied(there)
    assert ours.keys() == theirs.keys()
    for name, manifest in theirs.items():
        assert ours[name] == manifest, name


def test_it_is_what_the_target_applies_also_with_keys_a_log_and_more_words_for_vllm() -> None:
    gateway = {"api_keys": "/keys.yaml", "drain_s": 40, "port": 9000, "admin_port": 9001, "traffic_log": {}}
    there = place(environment={"gateway": gateway, "vllm": {"extra_args": ["--seed", "1"], "port": 8200}})
    ours = comparable(rendered(as_values(chart_values(there, "base", 2048))))
    theirs = comparable(manifests(there, "base", 2048, TOKENS, "ledger-1", Offered()))
    assert ours == theirs


@pytest.mark.parametrize("bare", [False, True], ids=["with a login", "for everybody"])
def test_agents_of_the_chart_pull_as_those_of_the_target_do(tmp_path: Path, bare: bool) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nof a registry\n")
    (tmp_path / "key.pem").write_text("-----BEGIN PUBLIC KEY-----\nof ann\n")
    signers = {"ann": {"public_key": str(tmp_path / "key.pem")}}
    more = {
        "registry": {"repository": "registry.example/team/adapters", "ca_file": str(tmp_path / "ca.pem")},
        "signatures": {"required": True, "signers": signers},
    }
    adapters = {"kind": "pulled"} if bare else WAYS["pulled"]["adapters"]
    there = place(environment=more, adapters=adapters)
    said = as_values(chart_values(there, "base", 2048))
    assert comparable(rendered(said)) == applied(there)
    assert str(tmp_path) not in json.dumps(said)
    assert said["agent"]["settings"]["signatures"]["signers"]["ann"]["public_key"].startswith("-----BEGIN PUBLIC")
    [annotation] = [m["spec"]["template"]["metadata"]["annotations"] for m in vllm_of(said)]
    said["agent"]["authority"] = "another"
    assert [m["spec"]["template"]["metadata"]["annotations"] for m in vllm_of(said)] != [annotation]


def vllm_of(said: dict[str, Any]) -> list[ResourceManifest]:
    return [
        m for m in rendered(said) if (m["kind"], m["metadata"]["name"]) == ("Deployment", "slipway-production-vllm")
    ]


def pulled(**more: Any) -> dict[str, Any]:
    """Pods that pull by themselves."""
    return as_values(chart_values(place(**WAYS["pulled"]), "base", 2048)) | more


def test_pods_that_pull_before_vllm_starts_can_serve_what_values_say() -> None:
    said = pulled(**{name: value for name, value in ROUTES.items() if name != "adapter_files"})
    [vllm] = vllm_of(said)
    [init] = vllm["spec"]["template"]["spec"]["initContainers"]
    assert f"--pull=sha256:{'1' * 64}" in init["command"]
    assert "tutor-aaaaaaaaaaaa=/adapters/aaaaaaaaaaaa" in vllm["spec"]["template"]["spec"]["containers"][0]["command"]


@pytest.mark.parametrize("said", [values(), routed(), pulled()], ids=["by a controller", "by values", "pulled"])
def test_helm_finds_nothing_wrong_and_every_manifest_is_valid_on_a_current_cluster(said: dict[str, Any]) -> None:
    report = helm("lint", chart=CHART, values=said, strict=True, namespace="serving")
    worse_than_a_hint = [message for message in report["messages"] if message["severity"] > 1]
    assert (report["errors"], worse_than_a_hint) == ([], [])
    for manifest in rendered(said):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_schema_beside_the_chart_is_made_from_the_model() -> None:
    assert json.loads((CHART / "values.schema.json").read_text()) == json.loads(json.dumps(values_schema()))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a number as text": (values(vllm={"replicas": "two"}), "replicas"),
    "a key that does not exist": (values(replicas=2), "replicas"),
    "a digest that is none": (values(adapters={"one": {"digest": "latest"}}), "digest"),
    "a share above all": (routed(candidate={"variant": "tutor-1", "mode": "canary", "share_percent": 101}), "101"),
    "no such mode": (routed(candidate={"variant": "tutor-1", "mode": "full", "share_percent": 1}), "mode"),
    "no port for users": (values(gateways={"settings": {"port": None, "admin_port": 1}}), "port"),
}


@pytest.mark.parametrize(("said", "word"), WRONG.values(), ids=WRONG.keys())
def test_a_value_of_the_wrong_type_is_refused_with_its_place(said: dict[str, Any], word: str) -> None:
    with pytest.raises(HelmError, match=word):
        rendered(said)


ASTRAY: dict[str, tuple[dict[str, Any], str]] = {
    "a variant that is not there": (routed(default="tutor-9"), "there is no tutor-9 among its variants"),
    "an adapter that is not there": (routed(variants={"base-1": {"model": "tutor-b"}}), "no tutor-b among adapters"),
    "default and candidate the same": (routed(default="tutor-1"), "both default and candidate"),
    "nobody to send adapters": (routed() | {"adapter_files": {"kind": "sent"}}, "nobody is there who would bring"),
    "nobody to have them pulled": (
        pulled() | {"adapter_files": {"kind": "pulled"}} | {k: v for k, v in ROUTES.items() if k != "adapter_files"},
        "nobody is there who would bring",
    ),
    "agents that pull and are told nothing": (values(adapter_files={"kind": "pulled"}), "give agent.settings"),
    "agents that are told and do not pull": (values(agent=pulled()["agent"]), "give agent.settings with pulled"),
    "two places for the model": (values(base_model={"claim": "a", "host_path": "/b"}), "claim, image, host_path"),
    "an image that may change": (values(images=IMAGES | {"vllm": "vllm:latest"}), "vllm:latest"),
}


@pytest.mark.parametrize(("said", "word"), ASTRAY.values(), ids=ASTRAY.keys())
def test_values_that_do_not_go_together_are_refused(said: dict[str, Any], word: str) -> None:
    with pytest.raises(HelmError, match=word):
        rendered(said)
    with pytest.raises(ValueError):
        ChartValues.model_validate(said)


def test_gateways_without_a_controller_serve_what_the_values_say() -> None:
    found = table(rendered(routed())).routes["tutor"]
    assert found.stable == "base-1"
    assert found.candidate is not None
    assert (found.candidate.variant, found.candidate.share_bp, found.candidate.mirror_bp) == ("tutor-1", 1250, 0)
    assert found.variants["base-1"].system_prompt == 'Answer: {shortly}\nand "well".'
    assert [str(url) for url in found.variants["tutor-1"].upstreams] == [
        "http://slipway-production-vllm.serving.svc:8100"
    ]


def test_a_shadow_gets_copies_and_no_users() -> None:
    shadow = {"variant": "tutor-1", "mode": "shadow", "share_percent": 50}
    found = table(rendered(routed(candidate=shadow))).routes["tutor"].candidate
    assert found is not None
    assert (found.share_bp, found.mirror_bp) == (0, 5000)


def test_default_null_is_the_base_model_with_its_long_prompt() -> None:
    found = table(rendered(routed(default=None, candidate=None))).routes["tutor"]
    assert (found.stable, found.candidate) == ("base-1", None)
    full = table(rendered(routed(default="tutor-1", candidate=None))).routes["tutor"]
    assert full.stable == "tutor-1"


def test_vllm_starts_with_the_adapters_that_the_values_name_out_of_folders_with_their_digests() -> None:
    deployments = {m["metadata"]["name"]: m for m in rendered(routed()) if m["kind"] == "Deployment"}
    pod = deployments["slipway-production-vllm"]["spec"]["template"]["spec"]
    words = pod["containers"][0]["command"]
    assert words[words.index("--lora-modules") + 1 :] == ["tutor-aaaaaaaaaaaa=/adapters/aaaaaaaaaaaa"]
    assert pod["initContainers"][0]["command"][-1] == "--check"


def test_another_table_replaces_gateways_and_leaves_vllm_alone() -> None:
    def template(found: list[ResourceManifest], name: str) -> ResourceManifest:
        [one] = [m for m in found if m["kind"] == "Deployment" and m["metadata"]["name"].endswith(name)]
        return dict(one["spec"]["template"])

    before, after = rendered(routed()), rendered(routed(default=None, candidate=None))
    assert template(before, "-gateway") != template(after, "-gateway")
    assert template(before, "-vllm") == template(after, "-vllm")


def test_no_secret_is_in_the_chart() -> None:
    assert "Secret" not in {manifest["kind"] for manifest in [*rendered(values()), *rendered(routed())]}
    assert DIGEST in IMAGES["vllm"]
