"""What each container of an environment is made of: names, addresses, mounts, limits. Nothing here asks the engine."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from configs.docker import DockerTarget
from configs.environment import Environment
from configs.gateway import GatewayConfig
from delivery.clients.docker.container import ContainerSpec, Mount, Owner
from tasks.serving.docker.folders import gateway_folder, kept_config, traffic_folder
from tasks.serving.keep_alive import Supervised
from tasks.serving.local import (
    ADMIN_TOKEN,
    GATEWAY_START_TIMEOUT_S,
    UPSTREAM_KEY,
    VLLM_KEY,
    environment_folder,
    gateway_health,
    secret_digest,
    vllm_health,
)
from tasks.serving.target import ModelToServe
from tasks.serving.vllm_command import vllm_in_container

VLLM_PORT, USERS_PORT, ADMIN_PORT = 8000, 8000, 8001  # inside the containers
MODEL, ADAPTERS, STATE, CONFIG, KEYS, TRAFFIC = "/models/base", "/adapters", "/state", "/config", "/keys", "/traffic"
GPU_SHARED_MEMORY_BYTES = 2**30  # vLLM's processes talk through it


@dataclass(frozen=True)
class SupervisedContainer(Supervised):
    """A container that should run. `spec` is asked when one has to be made: it looks up the image."""

    url: str
    kind: str
    spec: Callable[[], ContainerSpec]


@dataclass(frozen=True)
class Plan:
    """All containers of an environment. `image_id` and `cores` ask the engine; `user` is UID:GID inside."""

    environment: Environment
    config: DockerTarget
    home: Path
    user: str
    token: str
    image_id: Callable[[str], str]
    cores: Callable[[], int]

    @property
    def owner(self) -> Owner:
        """Whose they are."""
        return Owner(self.environment.name, str(self.home.absolute()))

    @property
    def network(self) -> str:
        """Its name."""
        return f"slipway-{self.environment.name}"

    def parts(self, model: ModelToServe) -> tuple[SupervisedContainer, ...]:
        """vLLM first."""
        vllm = self.environment.vllm
        replicas = [
            SupervisedContainer(
                name=f"{self.network}-vllm-{number}",
                health=partial(vllm_health, url),
                start_timeout_s=vllm.start_timeout_s,
                url=url,
                kind="vllm",
                spec=partial(self._vllm, number, model),
            )
            for number, url in enumerate(replica_urls(self.config))
        ]
        gateways = [
            SupervisedContainer(
                name=f"{self.network}-gateway-{number}",
                health=partial(gateway_health, url, self.token),
                start_timeout_s=GATEWAY_START_TIMEOUT_S,
                url=url,
                kind="gateway",
                spec=partial(self._gateway, number),
            )
            for number, url in enumerate(gateway_urls(self.config))
        ]
        return (*replicas, *gateways)

    def _vllm(self, number: int, model: ModelToServe) -> ContainerSpec:
        config, gpus = self.config, self.config.gpus_per_replica
        cores = None if gpus else max(1, round(config.vllm_cpus or self.cores()))
        command, environment = vllm_in_container(
            self.environment.vllm, model.name, PurePosixPath(MODEL), model.context_tokens, VLLM_PORT, cores
        )
        if gpus > 1:
            command = (*command, "--tensor-parallel-size", str(gpus))
        settings = {"command": " ".join(command), **environment}
        key = os.environ.get(VLLM_KEY, "").strip()
        if key:
            environment["VLLM_API_KEY"], settings["key"] = key, secret_digest(key)
        mounts = (Mount(str(model.folder.absolute()), MODEL), Mount(str(self.home.absolute() / "adapters"), ADAPTERS))
        return self._spec(
            f"{self.network}-vllm-{number}",
            config.vllm_image,
            command,
            str(config.replica_address(number)),
            int(config.vllm_memory_gib * 2**30),
            environment,
            settings,
            mounts,
            cpus=config.vllm_cpus,
            gpus=tuple(str(number * gpus + index) for index in range(gpus)),
            shared_memory_bytes=GPU_SHARED_MEMORY_BYTES if gpus else None,
        )

    def _gateway(self, number: int) -> ContainerSpec:
        outside, folder = self.environment.gateway, environment_folder(self.environment, self.home)
        inside = gateway_inside(outside)
        file = kept_config(inside, folder)
        command = ("--config", f"{CONFIG}/{file.name}")
        environment = {ADMIN_TOKEN: self.token}
        settings = {"command": " ".join(command), "admin token": secret_digest(self.token)}
        key = os.environ.get(UPSTREAM_KEY, "").strip() or os.environ.get(VLLM_KEY, "").strip()
        if key:
            environment[UPSTREAM_KEY], settings["upstream key"] = key, secret_digest(key)
        mounts = [
            Mount(str(gateway_folder(folder, number)), STATE, read_only=False),
            Mount(str(file.parent), CONFIG),
        ]
        if outside.api_keys is not None:
            mounts.append(Mount(str(outside.api_keys.absolute().parent), KEYS))
        if (traffic := traffic_folder(outside)) is not None:
            mounts.append(Mount(str(traffic), TRAFFIC, read_only=False))
        return self._spec(
            f"{self.network}-gateway-{number}",
            self.config.gateway_image,
            command,
            str(self.config.gateway_address(number)),
            int(self.config.gateway_memory_gib * 2**30),
            environment,
            settings,
            tuple(mounts),
            published={USERS_PORT: (outside.host, outside.port + number)},
        )

    def _spec(
        self,
        name: str,
        image: str,
        command: tuple[str, ...],
        address: str,
        memory_bytes: int,
        environment: dict[str, str],
        settings: dict[str, str],
        mounts: tuple[Mount, ...],
        **more: object,
    ) -> ContainerSpec:
        found = self.image_id(image)
        settings |= {"image": found, "address": address, "memory_bytes": str(memory_bytes), "user": self.user}
        settings |= {f"mount {mount.target}": mount.source for mount in mounts}
        settings |= {name: str(value) for name, value in more.items() if value}
        return ContainerSpec(
            name=name,
            image=found,
            command=command,
            network=self.network,
            address=address,
            memory_bytes=memory_bytes,
            user=self.user,
            environment=environment,
            settings=settings,
            mounts=mounts,
            **more,  # type: ignore[arg-type]
        )


def replica_urls(config: DockerTarget) -> tuple[str, ...]:
    """Base URLs on the environment's own network, which this machine reaches too."""
    return tuple(f"http://{config.replica_address(number)}:{VLLM_PORT}" for number in range(config.replicas))


def gateway_urls(config: DockerTarget) -> tuple[str, ...]:
    """Admin URLs, as `replica_urls`."""
    return tuple(f"http://{config.gateway_address(number)}:{ADMIN_PORT}" for number in range(config.gateways))


def gateway_inside(outside: GatewayConfig) -> GatewayConfig:
    """The gateway's settings as they hold inside its container; who may name himself is said by the outside."""
    changed: dict[str, object] = {
        "host": "0.0.0.0",  # noqa: S104 - published as the outside says
        "port": USERS_PORT,
        "admin_host": "0.0.0.0",  # noqa: S104 - on the environment's own network
        "admin_port": ADMIN_PORT,
        "trust_user_names": outside.trusts_user_names,
        "table_state": Path(STATE) / "table.json",
    }
    if outside.api_keys is not None:
        changed["api_keys"] = Path(KEYS) / outside.api_keys.name
    if outside.traffic_log is not None and outside.traffic_log.folder is not None:
        changed["traffic_log"] = outside.traffic_log.model_copy(update={"folder": Path(TRAFFIC)})
    return outside.model_copy(update=changed)
