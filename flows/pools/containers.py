"""The job template of a Docker pool: hardened containers of the engine that the worker speaks to."""

import copy
from typing import Any

from configs.pool import IMAGE_HOME, DockerContainers, Pool
from flows.pools.pods import run_environment, set_defaults


def with_containers(template: dict[str, Any], pool: Pool, containers: DockerContainers) -> dict[str, Any]:
    """Prefect's own base job template for Docker (`template`), with this pool's containers.

    What is passed on stands in it by name: `{{ $NAME }}` is looked up by the worker, in its own environment.
    """
    made = copy.deepcopy(template)
    host: dict[str, Any] = {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "tmpfs": {"/tmp": ""},  # noqa: S108 - the container's
    }
    if containers.gpus:
        host["device_requests"] = [{"Driver": "nvidia", "Count": containers.gpus, "Capabilities": [["gpu"]]}]
    # a volume without a name is the image's folder, owner and all, and goes with its container
    scratch = [] if pool.keeps(pool.home) else [str(IMAGE_HOME)]
    values: dict[str, Any] = {
        "image": pool.image,
        "image_pull_policy": "IfNotPresent",
        "auto_remove": True,
        "volumes": [*containers.volumes, *scratch],
        "networks": [containers.network] if containers.network else [],
        "env": run_environment(pool) | {name: "{{ $" + name + " }}" for name in containers.pass_on},
        "container_create_kwargs": host,
    }
    if containers.memory_gib is not None:
        values["mem_limit"] = values["memswap_limit"] = f"{round(containers.memory_gib * 1024)}m"
    set_defaults(made, values)
    return made
