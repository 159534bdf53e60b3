"""Where a work pool on Prefect's server differs from what pool.yaml says, each with its cure."""

from collections.abc import Iterator
from typing import Any

from configs.errors import Problem
from configs.pool import Pool
from flows.pools.files import deployments, job_template, kind_of, steps
from tasks.prefect_pool import FoundPool

MOST_SHOWN = 12  # of a template's differences: another version of Prefect's has hundreds


def deployment_names(pool: Pool) -> dict[str, dict[str, Any]]:
    """What is to be deployed, by the name that the server has it under."""
    return {f"{one['entrypoint'].rsplit('.', 1)[1]}/{one['name']}": one for one in deployments(pool)["deployments"]}


def pool_problems(pool: Pool, found: FoundPool | None) -> list[Problem]:
    """Nothing where runs can start as pool.yaml says."""
    create, deploy, start = steps(pool, "pool")
    if found is None:
        return [Problem(f"pool {pool.name}", "Prefect's server has none of this name", f"slipway pool write, {create}")]
    where = f"pool {pool.name}"
    if found.kind != kind_of(pool):
        cure = f"name another pool in pool.yaml, or delete this one: prefect work-pool delete {pool.name}"
        return [Problem(where, f"it is of type {found.kind}, and pool.yaml says {kind_of(pool)}", cure)]
    return [
        *_of_the_template(pool, found, f"slipway pool write, {create}"),
        *_of_deployments(pool, found, f"slipway pool write, {deploy}"),
        *([Problem(where, "it is paused", f"prefect work-pool resume {pool.name}")] if found.is_paused else []),
        *_of_workers(found, where, start),
    ]


def _of_the_template(pool: Pool, found: FoundPool, cure: str) -> Iterator[Problem]:
    different = list(_differences(job_template(pool), found.template, ""))
    shown = [f"{path}: {there!r} there, {wanted!r} here" for path, wanted, there in different[:MOST_SHOWN]]
    if len(different) > MOST_SHOWN:
        shown.append(f"and {len(different) - MOST_SHOWN} more")
    if different:
        yield Problem(f"pool {pool.name}: job template", "it differs\n" + "\n".join(f"  {one}" for one in shown), cure)


def _differences(wanted: Any, there: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(wanted, dict) and isinstance(there, dict):
        for name in sorted(wanted.keys() | there.keys()):
            yield from _differences(wanted.get(name), there.get(name), f"{path}.{name}" if path else name)
    elif wanted != there:
        yield path, wanted, there


def _of_deployments(pool: Pool, found: FoundPool, cure: str) -> Iterator[Problem]:
    for name, wanted in deployment_names(pool).items():
        there = found.deployments.get(name)
        if there is None:
            yield Problem(f"deployment {name}", "Prefect's server has none of this name", cure)
            continue
        pairs = [
            ("pool", there.pool, pool.name),
            ("entrypoint", there.entrypoint, wanted["entrypoint"]),
            *(("parameter " + key, there.parameters.get(key), value) for key, value in wanted["parameters"].items()),
        ]
        wrong = [f"{what} is {theirs!r} there, {ours!r} here" for what, theirs, ours in pairs if theirs != ours]
        if wrong:
            yield Problem(f"deployment {name}", "; ".join(wrong), cure)
        if there.is_paused:
            yield Problem(f"deployment {name}", "it is paused: no schedule starts it", "resume it in Prefect's UI")


def _of_workers(found: FoundPool, where: str, cure: str) -> Iterator[Problem]:
    if any(found.workers.values()):
        return
    names = ", ".join(sorted(found.workers))
    what = f"its workers are all silent: {names}" if names else "no worker has ever asked it for work"
    yield Problem(where, f"{what}; runs wait", cure)
