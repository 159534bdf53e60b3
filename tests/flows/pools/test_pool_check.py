"""What `slipway pool check` finds between pool.yaml and Prefect's server."""

import copy
from dataclasses import replace

import pytest
from pools import docker_pool, found_of, kubernetes_pool

from configs.pool import Pool
from flows.pools.check import pool_problems
from flows.pools.files import job_template


@pytest.mark.parametrize("pool", [kubernetes_pool(), docker_pool()])
def test_a_server_that_took_the_files_has_no_problem(pool: Pool) -> None:
    assert pool_problems(pool, found_of(pool)) == []


def test_a_pool_that_is_missing_or_of_another_kind_is_told_alone() -> None:
    pool = kubernetes_pool()
    (missing,) = pool_problems(pool, None)
    assert "none of this name" in missing.what
    assert "prefect work-pool create slipway-gpu --type kubernetes" in missing.cure
    (other,) = pool_problems(pool, found_of(pool, kind="process"))
    assert other.what == "it is of type process, and pool.yaml says kubernetes"


def test_each_place_where_a_template_differs_is_told_with_both_values() -> None:
    pool = kubernetes_pool()
    template = copy.deepcopy(job_template(pool))
    template["variables"]["properties"]["memory_limit"]["default"] = "8Gi"
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["nodeSelector"] = {}
    (problem,) = pool_problems(pool, found_of(pool, template=template))
    assert problem.where == "pool slipway-gpu: job template"
    assert "variables.properties.memory_limit.default: '8Gi' there, '32Gi' here" in problem.what
    assert "spec.nodeSelector.gpu: None there, 'a100' here" in problem.what
    assert "--overwrite" in problem.cure


def test_a_template_of_another_kind_of_thing_is_not_told_line_by_line() -> None:
    pool = kubernetes_pool()
    (problem,) = pool_problems(pool, found_of(pool, template={str(number): number for number in range(40)}))
    assert len(problem.what.splitlines()) == 14
    assert problem.what.endswith("more")


def test_deployments_that_are_missing_elsewhere_or_paused_are_told() -> None:
    pool = kubernetes_pool()
    there = found_of(pool).deployments
    moved = {"refresh/slipway-gpu": replace(there["refresh/slipway-gpu"], pool="other", is_paused=True)}
    missing, elsewhere, paused = pool_problems(pool, found_of(pool, deployments=moved))
    assert (missing.where, missing.what) == ("deployment build/slipway-gpu", "Prefect's server has none of this name")
    assert elsewhere.what == "pool is 'other' there, 'slipway-gpu' here"
    assert "prefect --no-prompt deploy --all" in elsewhere.cure
    assert paused.what.startswith("it is paused")


@pytest.mark.parametrize(
    ("workers", "told"),
    [({}, "no worker has ever asked it for work"), ({"a": False, "b": False}, "its workers are all silent: a, b")],
)
def test_a_pool_without_a_worker_that_answers_is_told(workers: dict[str, bool], told: str) -> None:
    pool = docker_pool()
    paused, silent = pool_problems(pool, found_of(pool, workers=workers, is_paused=True))
    assert paused.cure == "prefect work-pool resume slipway-gpu"
    assert told in silent.what
    assert silent.cure == "prefect worker start --pool slipway-gpu --type docker"
