"""`slipway pool` writes what Prefect takes, or says what keeps runs from working, all of it at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pools import IMAGE, PODS
from typer.testing import CliRunner

from configs.errors import ConfigError, SlipwayError
from configs.project import load_project
from delivery.clients.processes.ports import free_ports
from flows.cli.main import app
from flows.pools.fit import fitting_pool

KEPT: dict[str, Any] = {
    "ledger_url": "postgresql://slipway@db/slipway",
    "store": {"url": "s3://bucket/team"},
    "target": {
        "kind": "external",
        "replicas": ["http://10.0.0.1:8000"],
        "gateways": ["http://10.0.1.1:8001"],
        "adapters_on_replicas": "/adapters",
    },
}
ON_KUBERNETES = {
    "kind": "kubernetes",
    "namespace": "serving",
    "images": {"vllm": IMAGE, "gateway": IMAGE},
    "base_model": {"claim": "models"},
}


def project_with(folder: Path, environment: dict[str, Any], pool: dict[str, Any] | None = None) -> Path:
    here = folder / "project"
    here.mkdir()
    files = {
        "project": {"route": "tutor", "extends": str(Path("configs/tutor").absolute())},
        "environment": environment,
        "pool": pool or {"image": IMAGE, "project": "/models/tutor", "kubernetes": PODS},
    }
    for name, content in files.items():
        (here / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return here


def test_the_files_are_written_and_what_comes_next_is_said(tmp_path: Path) -> None:
    project, files = project_with(tmp_path, KEPT), tmp_path / "files"
    done = CliRunner().invoke(app, ["pool", "write", "--project", str(project), "--into", str(files)])
    assert done.exit_code == 0, done.output
    assert f"prefect --no-prompt deploy --all --prefect-file {files}/prefect.yaml" in done.output
    assert json.loads((files / "job-template.json").read_text())["job_configuration"]
    deployments = yaml.safe_load((files / "prefect.yaml").read_text())["deployments"]
    assert [one["entrypoint"] for one in deployments] == ["flows.build.build", "flows.refresh.refresh"]
    assert {one["parameters"]["project"] for one in deployments} == {"/models/tutor"}


def test_a_project_without_a_pool_is_told_what_to_write() -> None:
    with pytest.raises(SlipwayError, match=r"names no work pool(.|\n)*pool\.yaml"):
        fitting_pool(load_project(Path("configs/tutor")))


def test_all_that_would_be_lost_or_cannot_be_reached_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as found:
        fitting_pool(load_project(project_with(tmp_path, {"ledger_url": "sqlite:////var/ledger.sqlite"})))
    assert [problem.where.split(": ")[-1] for problem in found.value.problems] == ["store", "ledger_url", "target"]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({**KEPT, "store": {"url": "file:///mnt/team"}}, "/mnt/team is on no volume of the pool"),
        ({**KEPT, "target": {**ON_KUBERNETES, "in_cluster": True}}, "have no service account"),
        ({**KEPT, "target": ON_KUBERNETES}, "a run has no kubeconfig"),
        ({**KEPT, "target": {"kind": "docker", "vllm_image": IMAGE, "gateway_image": IMAGE}}, "no Docker engine"),
        ({**KEPT, "target": {"kind": "local"}}, "Slipway's image has none"),
    ],
)
def test_what_a_run_cannot_reach_is_told(tmp_path: Path, environment: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        fitting_pool(load_project(project_with(tmp_path, environment)))


def test_a_shared_folder_in_the_place_of_a_store_is_enough(tmp_path: Path) -> None:
    mounts = [{"claim": "all", "path": "/all"}]
    pool = {"image": IMAGE, "project": "/all/tutor", "home": "/all/state", "kubernetes": {**PODS, "mounts": mounts}}
    environment = {"target": KEPT["target"], "ledger_url": "sqlite:////all/ledger.sqlite"}
    assert fitting_pool(load_project(project_with(tmp_path, environment, pool))).name == "slipway-gpu"


@pytest.mark.parametrize("said", [None, "nobody listens"])
def test_a_check_needs_a_server_that_is_named_and_answers(
    tmp_path: Path, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    project = project_with(tmp_path, KEPT)
    url = f"http://127.0.0.1:{free_ports(1)[0]}/api" if said else None
    updates, without = ({PREFECT_API_URL: url}, set()) if url else ({}, {PREFECT_API_URL})
    with temporary_settings(updates, restore_defaults=without):
        done = CliRunner().invoke(app, ["pool", "check", "--project", str(project)])
    assert isinstance(done.exception, SlipwayError)
    assert "PREFECT_API_URL" in done.exception.render()
