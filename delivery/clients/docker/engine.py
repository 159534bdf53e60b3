"""The engine's API as the Docker target needs it. The only code that imports Docker's client."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network
from typing import Any

import docker
from docker.errors import NotFound
from docker.types import DeviceRequest, LogConfig, Mount

from configs.errors import SlipwayError
from delivery.clients.docker.container import HOME, SETTINGS, Container, ContainerSpec, Owner
from delivery.clients.docker.errors import told

PING_S = 3.0
DIGESTS = """
import hashlib, json, os, sys
def digest(path):
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
print(json.dumps({name: digest(os.path.join(sys.argv[1], name)) for name in sorted(os.listdir(sys.argv[1]))}))
"""
LOGS = {"max-size": "20m", "max-file": "2"}


@dataclass(frozen=True)
class Engine:
    """The engine that DOCKER_HOST names, else this machine's. Everything raises EngineAwayError where none answers."""

    timeout_s: float = 60.0

    @cached_property
    def _client(self) -> Any:
        return docker.from_env(timeout=self.timeout_s)

    @cached_property
    def _quick(self) -> Any:
        return docker.from_env(timeout=PING_S)

    def cores(self) -> int:
        """Of the engine's machine."""
        with told("ask the engine"):
            return int(self._client.info()["NCPU"])

    def ping(self) -> None:
        """Returns when it answers, which may take three seconds."""
        with told("ask the engine"):
            self._quick.ping()

    def image_id(self, reference: str) -> str:
        """The ID, a digest, of an image that the engine has; nothing is pulled. Raises SlipwayError without it."""
        with told(f"use the image {reference}"):
            return str(self._client.images.get(reference).id)

    def find(self, name: str) -> Container | None:
        """The container of that name, whoever made it."""
        with told(f"look at {name}"):
            try:
                return _container(self._client.api.inspect_container(name))
            except NotFound:
                return None

    def all_of(self, labels: Mapping[str, str]) -> list[Container]:
        """Containers with these labels, running or not, by name."""
        with told("list containers"):
            wanted = [f"{name}={value}" for name, value in labels.items()]
            found = self._client.api.containers(all=True, filters={"label": wanted})
            names = sorted(one["Names"][0].lstrip("/") for one in found)
        return [container for name in names if (container := self.find(name)) is not None]

    def make_network(self, name: str, subnet: IPv4Network, owner: Owner) -> None:
        """A network without a way out; one that is there as asked is left alone. Raises SlipwayError for another."""
        with told(f"make the network {name}"):
            for one in self._client.networks.list(names=[f"^{name}$"]):
                subnets = {part.get("Subnet") for part in one.attrs["IPAM"]["Config"] or ()}
                if owner.labels().items() <= (one.attrs["Labels"] or {}).items() and subnets == {str(subnet)}:
                    return
                raise SlipwayError(
                    f"the network {name} is there with {', '.join(map(str, subnets))}, and not with {subnet} for this"
                    " environment",
                    where="environment.yaml: target.subnet",
                    cure=f"end what uses it (slipway down), then: docker network rm {name}",
                )
            pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=str(subnet))])
            self._client.networks.create(name, driver="bridge", internal=True, ipam=pool, labels=owner.labels())

    def remove_networks(self, labels: Mapping[str, str]) -> None:
        """All with these labels; nothing may be in them any more."""
        with told("remove a network"):
            wanted = [f"{name}={value}" for name, value in labels.items()]
            for one in self._client.networks.list(filters={"label": wanted}):
                one.remove()

    def create(self, spec: ContainerSpec, owner: Owner) -> None:
        """Makes the container with no right that it can do without, and starts nothing."""
        labels = {**owner.labels(), SETTINGS: json.dumps(dict(spec.settings), sort_keys=True)}
        gpus = [DeviceRequest(device_ids=list(spec.gpus), capabilities=[["gpu"]])] if spec.gpus else []
        with told(f"make {spec.name}"):
            inside = {spec.network: self._client.api.create_endpoint_config(ipv4_address=spec.address)}
            container = self._client.containers.create(
                spec.image,
                list(spec.command),
                name=spec.name,
                labels=labels,
                environment=dict(spec.environment),
                user=spec.user,
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                tmpfs={"/tmp": "rw,nosuid,nodev"},  # noqa: S108 - the container's own
                mounts=[Mount(m.target, m.source, type="bind", read_only=m.read_only) for m in spec.mounts],
                mem_limit=spec.memory_bytes,
                memswap_limit=spec.memory_bytes,
                nano_cpus=None if spec.cpus is None else int(spec.cpus * 1e9),
                device_requests=gpus,
                shm_size=spec.shared_memory_bytes,
                pids_limit=4096,
                ports={f"{port}/tcp": where for port, where in spec.published.items()},
                network="bridge" if spec.published else spec.network,
                networking_config=None if spec.published else inside,
                log_config=LogConfig(type="json-file", config=LOGS),
                restart_policy={"Name": "no"},  # whoever restarts it also has to load its adapters
            )
            if spec.published:  # its own network has no way out
                try:
                    self._client.networks.get(spec.network).connect(container, ipv4_address=spec.address)
                except BaseException:
                    container.remove(force=True)
                    raise

    def start(self, name: str) -> Container:
        """Starts one that is there: what still runs of it is ended first."""
        with told(f"start {name}"):
            container = self._client.containers.get(name)
            if container.status == "paused":
                container.unpause()
            if container.status in ("running", "paused"):
                container.stop(timeout=1)
            container.start()
            return _container(self._client.api.inspect_container(name))

    def remove(self, name: str, grace_s: int) -> None:
        """Ends it, after so long at most, and forgets it; fine where it is not there."""
        with told(f"end {name}"):
            try:
                container = self._client.containers.get(name)
                if container.status == "paused":
                    container.unpause()
                if container.status in ("running", "paused"):
                    container.stop(timeout=grace_s)
                container.remove(force=True)
            except NotFound:
                return

    def last_words(self, name: str, lines: int = 400) -> str:
        """What it wrote last; empty where it is gone."""
        with told(f"read the log of {name}"):
            try:
                return str(self._client.api.logs(name, tail=lines).decode(errors="replace"))
            except NotFound:
                return ""

    def digests(self, name: str, folder: str) -> dict[str, str]:
        """`sha256:...` by name of the files in a folder, as the container's own user reads them there.

        Raises SlipwayError where he cannot. The image needs a python3.
        """
        with told(f"read {folder} in {name}"):
            command = ["python3", "-IS", "-c", DIGESTS, folder]
            execution = self._client.api.exec_create(name, command)["Id"]
            output, errors = self._client.api.exec_start(execution, demux=True)
            status = self._client.api.exec_inspect(execution)["ExitCode"]
        if status != 0:
            said = (errors or output or b"").decode(errors="replace").strip()
            raise SlipwayError(f"{name} cannot read {folder}: {said[-300:]}", where=f"container {name}")
        return dict(json.loads(output))


def settings_of(container: Container) -> dict[str, str]:
    """What its label says that it was started with."""
    try:
        return dict(json.loads(container.labels.get(SETTINGS, "{}")))
    except ValueError:
        return {}


def home_labels(home: str) -> dict[str, str]:
    """What all containers of a state folder carry."""
    return {HOME: home}


def _container(said: Mapping[str, Any]) -> Container:
    state = said["State"]
    return Container(
        id=said["Id"],
        name=said["Name"].lstrip("/"),
        status=state["Status"],
        started_at=state["StartedAt"],
        exit_code=state["ExitCode"],
        out_of_memory=bool(state["OOMKilled"]),
        error=state["Error"],
        labels=said["Config"]["Labels"] or {},
        memory_bytes=said["HostConfig"]["Memory"],
    )
