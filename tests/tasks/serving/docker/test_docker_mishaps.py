"""What goes wrong with containers and their engine: each ends in a word that says why, and users notice nothing."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from docker_images import BASE, engine, image
from docker_proxy import docker_proxy
from docker_world import container_names, docker_project, docker_world
from release_child import TOKEN
from stub_project import until
from target_worlds import TargetWorld

from configs.errors import SlipwayError, require_all
from configs.project import Project
from delivery.clients.bundles.images import unpack_adapter
from delivery.clients.docker.engine import Engine
from delivery.clients.docker.errors import EngineAwayError
from delivery.progress import silent
from tasks.preflight import before_up
from tasks.release.site import open_site_of
from tasks.serving import environment
from tasks.serving.docker.folders import user_inside
from tasks.serving.docker.target import DockerContainers
from tasks.serving.target import ModelToServe, Watcher
from tasks.serving.targets import target_of

pytestmark = pytest.mark.live

USERS = 2  # each with one request at a time


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TargetWorld]:
    """Containers that run, their supervisor ended: a test looks after them itself."""
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    with docker_world(tmp_path) as found:
        with found.target.up(model_of(found)), open_site_of(found.project, found.home) as site:
            environment.serve_live(site, found.project, found.base, silent)
        yield found


def model_of(world: TargetWorld) -> ModelToServe:
    return ModelToServe("base", world.base, 4096)


def kinds_until(watcher: Watcher, last: str, patience_s: float = 40) -> list[str]:
    """Every incident by kind and part, until one of the kind `last` comes."""
    seen: list[str] = []
    deadline = time.monotonic() + patience_s
    while not any(text.startswith(last) for text in seen):
        assert time.monotonic() < deadline, seen
        seen += [f"{event.kind} {event.name}: {event.text}" for event in watcher.check(time.monotonic())]
    return seen


def of(world: TargetWorld, name: str) -> str:
    return next(part.reason for part in world.target.state() if not part.healthy and part.url == url_of(world, name))


def url_of(world: TargetWorld, name: str) -> str:
    number = int(name.rpartition("-")[2])
    return (world.target.replicas if "-vllm-" in name else world.target.gateways)[number]


@pytest.mark.timeout(100)
def test_what_is_killed_paused_or_removed_is_told_and_comes_back_while_users_notice_nothing(world: TargetWorld) -> None:
    client, (first, other, *_) = engine(), container_names(world.project)
    watcher = world.target.watch(model_of(world))
    assert watcher.check(time.monotonic()) == ()
    with world.users(USERS):
        client.api.kill(first)
        assert "its container is exited (exit status 137)" in of(world, first)
        died, restarting, back = kinds_until(watcher, "back")
        assert died.startswith(f"died {first}: {first} died: its container is exited (exit status 137)")
        assert "Starting vLLM server" in died
        assert restarting.startswith("restarting")
        assert f"{first} serves again" in back

        client.api.pause(other)
        assert "docker unpause" in of(world, other)
        (paused,) = kinds_until(watcher, "away")
        assert f"away {other}: {other} does not answer: its container is paused: docker unpause {other}" == paused
        assert watcher.check(time.monotonic()) == ()
        client.api.unpause(other)
        assert kinds_until(watcher, "back") == [f"back {other}: {other} is no longer paused"]

        client.api.remove_container(other, force=True)
        assert "it has no container" in of(world, other)
        died, *_ = kinds_until(watcher, "back")
        assert "it is not there any more" in died
    assert world.asked > 20
    assert len(world.failed) <= 2 * USERS, "what was inside what was killed, and nothing else"
    assert all(part.healthy for part in world.target.state())


@pytest.mark.timeout(100)
def test_an_engine_that_is_away_is_told_once_stops_no_user_and_heals_what_died_meanwhile(
    world: TargetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, first = engine(), container_names(world.project)[0]
    with docker_proxy(tmp_path / "docker.sock") as proxy, monkeypatch.context() as only_here:
        only_here.setenv("DOCKER_HOST", f"unix://{proxy.path}")
        watcher = world.target.watch(model_of(world))
        assert watcher.check(time.monotonic()) == ()
        with world.users(USERS):
            proxy.go_away()
            (away,) = watcher.check(time.monotonic())
            assert (away.name, away.kind) == ("docker", "away")
            assert "the Docker engine does not answer" in away.text
            assert watcher.check(time.monotonic()) == ()
            assert all(part.healthy for part in world.target.state()), "they say so themselves"
            asked = world.asked
            until(lambda: world.asked > asked + 10)
            assert world.failed == []
            with pytest.raises(EngineAwayError, match="the Docker engine does not answer"):
                require_all("no", world.target.before_up())
            with pytest.raises(EngineAwayError):
                world.target.down()
            client.api.kill(first)
            assert "the Docker engine does not answer" in of(world, first)
            assert watcher.check(time.monotonic()) == ()
            proxy.come_back()
            seen = kinds_until(watcher, "back slipway")
        assert [text.split()[0] for text in seen] == ["back", "died", "restarting", "back"]
        assert len(world.failed) <= USERS, "what was inside the killed one, and nothing else"


@pytest.mark.timeout(100)
def test_containers_have_no_right_that_they_can_do_without_and_tell_no_secret(world: TargetWorld) -> None:
    client = engine()
    for name in container_names(world.project):
        said = client.api.inspect_container(name)
        host = said["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert (host["CapDrop"], host["CapAdd"], host["SecurityOpt"]) == (["ALL"], None, ["no-new-privileges"])
        assert said["Config"]["User"] == user_inside(None)
        assert host["Memory"] == host["MemorySwap"] > 0
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "2", "max-size": "20m"}}
        assert said["Image"] == said["Config"]["Image"], "by its ID"
        assert TOKEN not in str(said["Config"]["Labels"])
        assert TOKEN not in client.api.logs(name).decode()
        published = [where["HostIp"] for wheres in (host["PortBindings"] or {}).values() for where in wheres]
        assert published == (["127.0.0.1"] if "-gateway-" in name else [])
        writable = {mount["Destination"] for mount in said["Mounts"] if mount["RW"]}
        assert writable == ({"/state"} if "-gateway-" in name else set())
    assert client.networks.get(f"slipway-{world.project.environment.name}").attrs["Internal"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount one folder over another")
@pytest.mark.timeout(100)
def test_a_container_that_sees_other_bytes_is_named_before_anything_is_loaded(world: TargetWorld) -> None:
    bundle = world.built()
    folder = unpack_adapter(bundle, world.home)
    assert world.target.place(folder) == f"/adapters/{folder.name}"
    for replica in world.target.replicas:
        world.target.prove(replica, f"/adapters/{folder.name}")
    weights, elsewhere = folder / "adapter_model.safetensors", folder.parent.with_name("elsewhere")
    subprocess.run(["cp", "-a", str(folder.parent), str(elsewhere)], check=True)
    weights.write_bytes(b"changed")
    with pytest.raises(SlipwayError, match=f"{folder} is not"):
        world.target.place(folder)
    subprocess.run(["mount", "--bind", str(elsewhere), str(folder.parent)], check=True)
    try:  # this machine sees the right bytes again, and the containers, which began before, the changed ones
        path = world.target.place(folder)
        for replica in world.target.replicas:
            with pytest.raises(SlipwayError, match="does not see the adapter that it is to load") as refused:
                world.target.prove(replica, path)
            assert [problem.where for problem in refused.value.problems] == [f"{path}/{weights.name}"]
    finally:
        subprocess.run(["umount", str(folder.parent)], check=True)


@pytest.mark.timeout(100)
def test_what_up_needs_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
    client, project, home = engine(), docker_project(tmp_path), tmp_path / "home"
    first, *_ = names = container_names(project)
    stranger = client.containers.create(BASE, ["true"], name=first)
    try:
        missing = {"gateway_image": "slipway-gateway:none", "vllm_image": "sha256:" + 64 * "0"}
        with pytest.raises(SlipwayError) as refused:
            require_all("it cannot start", before_up(changed(project, **missing), home))
        told = str(refused.value)
        assert "cannot use the image slipway-gateway:none" in told
        assert "cannot use the image sha256:0000" in told
        assert f"the name {first} is taken by a container that this environment did not make" in told
        assert "make images" in told
    finally:
        stranger.remove()
    taken = client.networks.create(
        "slipway-test-taken",
        ipam=docker_ipam(str(target(project, home).config.subnet)),
    )
    try:
        with pytest.raises(SlipwayError, match="another network has these addresses") as refused:
            start(project, home)
        assert "target.subnet" in str(refused.value)
    finally:
        taken.remove()
    for path in (tmp_path / "model").iterdir():
        path.chmod(0o000)
    with pytest.raises(SlipwayError, match=f"user {user_inside(None)} inside the container cannot read"):
        start(project, home)
    for path in (tmp_path / "model").iterdir():
        path.chmod(0o644)
    with pytest.raises(SlipwayError, match="died at start") as refused:
        start(changed(project, vllm_image=image("gateway")), home)
    assert "unrecognized arguments" in str(refused.value), "its last lines are told"
    assert not [one for one in client.api.containers(all=True) if one["Names"][0].lstrip("/") in names]
    target(project, home).down()
    assert not client.networks.list(names=[f"slipway-{project.environment.name}"])


@pytest.mark.timeout(100)
def test_other_settings_need_a_new_start_and_fewer_replicas_leave_none_behind(world: TargetWorld) -> None:
    fewer = changed(world.project, vllm_memory_gib=0.5)
    with pytest.raises(SlipwayError, match="runs with '268435456', asked for '536870912'"):
        start(fewer, world.home)
    _, other, *_ = names = container_names(world.project)
    engine().api.pause(other)
    assert Engine().start(other).status == "running", "a paused one can be started anew"
    one = changed(world.project, replicas=1)
    assert set(target(one, world.home).down()) == set(names)
    assert engine().api.containers(all=True, filters={"name": world.project.environment.name}) == []


@pytest.mark.timeout(100)
def test_before_a_state_folder_goes_all_that_it_runs_is_ended(world: TargetWorld) -> None:
    assert set(environment.stop_all(world.home)) == set(container_names(world.project))
    assert engine().networks.list(names=[f"slipway-{world.project.environment.name}"]) == []
    assert environment.stop_all(world.home) == ()


def target(project: Project, home: Path) -> DockerContainers:
    found = target_of(project.environment, home)
    assert isinstance(found, DockerContainers)
    return found


def start(project: Project, home: Path) -> None:
    with target(project, home).up(ModelToServe("base", Path(str(project.model.path)), 4096)):
        pass


def changed(project: Project, **settings: object) -> Project:
    place = project.environment.target.model_copy(update=settings)
    return replace(project, environment=project.environment.model_copy(update={"target": place}))


def docker_ipam(subnet: str) -> object:
    from docker.types import IPAMConfig, IPAMPool

    return IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
