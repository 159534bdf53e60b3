"""A build in the pods of a Prefect work pool, on a real cluster: its pod is evicted, and the next one goes on."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_world import RealCluster, real_cluster, tagged
from docker_images import image
from places import ROOT
from real_prefect import RealPrefect, real_prefect
from s3_server import LOGIN, S3Server, s3_server
from stub_vllm import StubVllm
from tiny_model import conversation, save_tiny_model

from delivery.clients.store.items import Store

pytestmark = pytest.mark.live

HOST = "172.17.0.1"  # docker0's: pods reach this machine there
NAMESPACE, POOL = "training", "slipway-test"
SLIPWAY, PREFECT = (str(Path(sys.executable).with_name(name)) for name in ("slipway", "prefect"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with real_cluster(images=lambda: {"pipeline": tagged(image("pipeline"), "pipeline")}, has_model=False) as there:
        there.kubectl("create", "namespace", NAMESPACE)
        words = [f"--from-literal={name}={value}" for name, value in LOGIN.items()]
        there.kubectl("create", "secret", "generic", "s3", "-n", NAMESPACE, *words)
        yield there


def write_project(folder: Path, image_tag: str, store: Any, vllm_port: int, **pods: Any) -> Path:
    """As a pod sees it below /shared, where the ledger lies too: SQLite, since pods reach no other one here."""
    project = folder / "tiny"
    (project / "evals" / "anything").mkdir(parents=True)
    save_tiny_model(folder / "model", context_tokens=1024)
    rows = [json.dumps({"messages": conversation(i)}) for i in range(120)]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    files = {
        "project": {"route": "tiny"},
        "model": {"name": "base", "path": "/shared/model", "max_context_tokens": 1024},
        "dataset": {
            "name": "tiny",
            "sources": [{"path": "/shared/rows.jsonl", "reader": "messages"}],
            "filters": {"max_row_tokens": 256},
            "split": {"salt": "tiny", "holdout_share": 0.2},
        },
        "training": {
            "lora": {"rank": 4, "alpha": 8},
            "batch_size": 2,
            "epochs": 40,
            "max_sequence_tokens": 256,
            "checkpoint_every_steps": 100,
        },
        "prompts": {"base": "Be brief.", "adapter": "Be brief.", "sampling": {"temperature": 0, "max_tokens": 16}},
        "evals": {"behaviour": ["anything"], "gates": [{"suite": "anything", "min_score": 0}]},
        "rollout": {"stages": [{"kind": "canary", "share_bp": 5000}, {"kind": "full", "share_bp": 10_000}], "checks": [{"metric": "error_rate", "max": 0.5}]},
        "environment": {
            "ledger_url": "sqlite:////shared/ledger.sqlite",
            "target": {
                "kind": "external",
                "replicas": [f"http://{HOST}:{vllm_port}"],
                "gateways": [f"http://{HOST}:1"],
                "adapters_on_replicas": "/adapters",
            },
            "store": store.model_dump(mode="json"),
        },
        "pool": {
            "name": POOL,
            "image": image_tag,
            "project": "/shared/tiny",
            "kubernetes": {
                "namespace": NAMESPACE,
                "gpus": 0,
                "cpu": "100m",
                "memory": "2Gi",
                "scratch": "2Gi",
                "pull_policy": "Never",
                "secrets": ["s3"],
                "mounts": [{"host_path": str(folder), "path": "/shared"}],
                "start_timeout_s": 60,
                **pods,
            },
        },
    }
    for name, content in files.items():
        (project / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (project / "evals" / "anything" / "eval.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "anything",
                "description": "Whatever is answered.",
                "scorer": {"name": "similarity", "measure": "chrf"},
                "samples": "holdout",
            }
        )
    )
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    return project


def run(env: dict[str, str], *words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def worker(prefect: RealPrefect, cluster: RealCluster, log: Path) -> Iterator[None]:
    env = prefect.env | {"KUBECONFIG": str(cluster.kubeconfig)}
    with log.open("wb") as out:
        words = [PREFECT, "worker", "start", "--pool", POOL, "--type", "kubernetes"]
        process = subprocess.Popen(words, env=env, stdout=out, stderr=out, cwd=log.parent)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def state_of(prefect: RealPrefect, run_id: str) -> dict[str, Any]:
    (found,) = prefect.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    return found


def until(what: Any, patience_s: float, log: Path) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < deadline, log.read_text()[-6000:]
        time.sleep(0.5)
    return found


@pytest.mark.timeout(900)
def test_a_build_in_a_pod_that_is_evicted_goes_on_in_another_and_ends_with_a_bundle(cluster: RealCluster) -> None:
    folder = Path(tempfile.mkdtemp(prefix="slipway-pool-", dir="/var/tmp"))
    began = time.monotonic()
    try:
        with s3_server(HOST) as s3, StubVllm(host=HOST) as vllm, real_prefect(folder, HOST) as prefect:
            _build_with_an_eviction(cluster, folder, s3, vllm, prefect, began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build_with_an_eviction(
    cluster: RealCluster, folder: Path, s3: S3Server, vllm: StubVllm, prefect: RealPrefect, began: float
) -> None:
    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}")

    store, log = s3.bucket(), folder / "worker.log"
    port = vllm.server.server_port
    project = write_project(folder / "shared", cluster.images["pipeline"], store, port)
    env = prefect.env | {"PATH": os.environ["PATH"]}
    pool = folder / "pool"
    print(run(env, SLIPWAY, "pool", "--project", str(project), "--into", str(pool)))
    template = str(pool / "job-template.json")
    run(env, PREFECT, "work-pool", "create", POOL, "--type", "kubernetes", "--base-job-template", template)
    run(env, PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", str(pool / "prefect.yaml"))
    say("deployed")
    with worker(prefect, cluster, log):
        (deployment,) = prefect.post(
            "/deployments/filter", {"deployments": {"name": {"any_": [POOL]}}, "flows": {"name": {"any_": ["build"]}}}
        )
        made = prefect.post(
            f"/deployments/{deployment['id']}/create_flow_run", {"parameters": deployment["parameters"]}
        )

        def pods() -> list[dict[str, Any]]:
            return [p for p in cluster.api(NAMESPACE).list("v1", "Pod") if not p["metadata"].get("deletionTimestamp")]

        def has_checkpoint() -> bool:
            names = Store(store).names("trainings")
            index = Store(store).index("trainings", names[0]) if names else None
            return index is not None and any(name.endswith("/complete") for name in index.files)

        until(has_checkpoint, 300, log)
        (first,) = pods()
        say(f"a checkpoint is in the store; evicting {first['metadata']['name']}")
        cluster.kubectl("delete", "pod", "-n", NAMESPACE, first["metadata"]["name"], "--wait=false")
        until(lambda: state_of(prefect, made["id"])["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED"), 300, log)
    ended = state_of(prefect, made["id"])
    say(f"{ended['state']['name']}: {ended['state'].get('message')}")
    logs = prefect.post(
        "/logs/filter", {"logs": {"flow_run_id": {"any_": [made["id"]]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
    )
    told = [entry["message"] for entry in logs]
    print("\n".join(told)[-6000:])
    assert ended["state"]["type"] == "COMPLETED", log.read_text()[-4000:]
    assert any("fetching checkpoint" in text for text in told)
    assert any("resuming at step" in text for text in told)
    assert len(Store(store).names("bundles")) >= 1
    assert Store(store).names("datasets")
