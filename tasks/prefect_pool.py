"""What Prefect's server knows of a work pool: its template, its deployments and its workers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FoundDeployment:
    """As the server has it."""

    pool: str | None
    entrypoint: str | None
    parameters: dict[str, Any]
    is_paused: bool


@dataclass(frozen=True)
class FoundPool:
    """As the server has it. `deployments` by name, FLOW/DEPLOYMENT, those that are there."""

    kind: str  # Prefect's word: kubernetes, docker, process, ...
    template: dict[str, Any]
    is_paused: bool
    workers: dict[str, bool]  # by name: whether its last heartbeat is young enough
    deployments: dict[str, FoundDeployment]


def look_at_pool(name: str, deployments: Iterable[str]) -> FoundPool | None:
    """The pool, None where the server has none of this name. Raises SlipwayError when the server cannot be used."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import WorkerStatus
    from prefect.exceptions import ObjectNotFound

    from tasks.prefect_server import explained

    try:
        with get_client(sync_client=True) as client:
            try:
                pool = client.read_work_pool(name)
            except ObjectNotFound:
                return None
            workers = client.read_workers_for_work_pool(name)
            found = {}
            for one in deployments:
                try:
                    there = client.read_deployment_by_name(one)
                except ObjectNotFound:
                    continue
                found[one] = FoundDeployment(there.work_pool_name, there.entrypoint, there.parameters, there.paused)
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        raise told from error
    online = {worker.name: worker.status == WorkerStatus.ONLINE for worker in workers}
    return FoundPool(pool.type, pool.base_job_template, pool.is_paused, online, found)
