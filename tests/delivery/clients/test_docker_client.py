"""What is told of an engine's troubles, without one."""

from dataclasses import replace
from pathlib import Path

import pytest
from docker.errors import APIError, ImageNotFound

from configs.errors import SlipwayError
from delivery.clients.docker.container import Container, Owner
from delivery.clients.docker.engine import Engine
from delivery.clients.docker.errors import KNOWN, EngineAwayError, told

EXITED = Container("1", "vllm-0", "exited", "", 1, False, "", {}, 3 * 2**30)


@pytest.mark.parametrize(
    ("container", "why"),
    [
        (replace(EXITED, status="running"), ""),
        (replace(EXITED, status="paused"), "its container is paused: docker unpause vllm-0"),
        (EXITED, "its container is exited (exit status 1)"),
        (replace(EXITED, exit_code=0, out_of_memory=True), "it ran out of memory at 3.0 GiB (exit status 0)"),
        (replace(EXITED, status="created", error="no such device"), "its container could not start: no such device"),
    ],
)
def test_why_a_container_does_not_serve_is_told_where_that_is_known(container: Container, why: str) -> None:
    assert container.why_not_serving() == why


def test_a_container_belongs_to_an_environment_of_one_state_folder() -> None:
    owner = Owner("live", "/srv/slipway")
    ours = replace(EXITED, labels={**owner.labels(), "more": "x"})
    assert ours.belongs_to(owner)
    assert not ours.belongs_to(Owner("live", "/elsewhere"))
    assert not EXITED.belongs_to(owner)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("failed to copy: write /var/lib/docker/x: No space left on device", "the engine's disk is full"),
        ("Bind for 127.0.0.1:8000 failed: port is already allocated", "a port is in use"),
        ('Conflict. The container name "/x" is already in use by container "1".', "the name is taken"),
        ("Pool overlaps with other one on this address space", "another network has these addresses"),
        ('could not select device driver "" with capabilities: [[gpu]]', "the engine has no GPUs to give"),
    ],
)
def test_what_an_engine_says_is_told_with_what_to_do(said: str, meaning: str) -> None:
    with pytest.raises(SlipwayError, match=meaning) as refused, told("start vllm-0"):
        raise APIError("500", explanation=said)
    assert said in refused.value.what
    assert refused.value.cure


def test_an_error_of_an_engine_that_nobody_foresaw_keeps_its_words() -> None:
    with pytest.raises(SlipwayError, match="cannot start vllm-0: the moon is full"), told("start vllm-0"):
        raise APIError("500", explanation="the moon is full")
    assert len({needle for needle, _, _ in KNOWN}) == len(KNOWN)


def test_an_image_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(SlipwayError, match="make images"), told("use the image x:1"):
        raise ImageNotFound("404", explanation="No such image: x:1")


def test_an_engine_that_nobody_can_reach_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(EngineAwayError, match=r"does not answer: .*No such file") as away:
        Engine().ping()
    assert "DOCKER_HOST" in away.value.where
