"""What goes wrong with an engine, in words: who is away, what is taken, where no room is."""

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from docker.errors import APIError, DockerException, ImageNotFound

from configs.errors import SlipwayError


class EngineAwayError(SlipwayError):
    """No engine answers, or not in time. What it started may well run on."""


KNOWN = (  # what the engine says -> what it means here, what to do
    ("no space left on device", "the engine's disk is full", "make room there: docker system df, docker image prune"),
    ("port is already allocated", "a port is in use", "end what has it, or set another gateway.port"),
    ("address already in use", "an address or a port is in use", "end what has it, or set another one"),
    ("cannot assign requested address", "this machine has no such address", "set gateway.host to one that it has"),
    ("pool overlaps", "another network has these addresses", "set target.subnet to one that is free"),
    ("is already in use by container", "the name is taken", "docker ps -a shows by whom; remove or rename that one"),
    ("bind source path does not exist", "the engine does not see this machine's folder", "run slipway where it runs"),
    ("could not select device driver", "the engine has no GPUs to give", "install the NVIDIA container toolkit there"),
    ("minimum memory limit", "the memory limit is too low", "raise it in target"),
    ("range of cpus is from", "there are not so many CPUs", "lower target.vllm_cpus"),
)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turns whatever the engine's client raises into a SlipwayError. `what`: e.g. "start vllm-0"."""
    try:
        yield
    except ImageNotFound as error:
        raise SlipwayError(
            f"cannot {what}: {error.explanation or error}", cure="build the images: make images, or pull them by digest"
        ) from error
    except APIError as error:
        raise _explained(what, str(error.explanation or error)) from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise EngineAwayError(
            f"the Docker engine does not answer: {_short(error)}",
            where="DOCKER_HOST, else /var/run/docker.sock",
            cure="start it, and let this user reach it; what it had started may run on",
        ) from error


def _explained(what: str, said: str) -> SlipwayError:
    for needle, meaning, cure in KNOWN:
        if needle in said.lower():
            text = f"cannot {what}: {meaning}: {said.strip()}"
            return SlipwayError(text, where="environment.yaml: target", cure=cure)
    return SlipwayError(f"cannot {what}: {said.strip()}", where="the Docker engine")


def _short(error: BaseException) -> str:
    """The innermost cause: the outer ones repeat it in their own names."""
    seen = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    return str(seen)[:200] or type(seen).__name__
