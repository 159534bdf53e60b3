"""Real vLLM: adapters at run time, what shares a batch, and what happens when it dies."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.clients.processes import local as processes
from delivery.clients.processes.ports import Port, require_free
from delivery.clients.vllm import VllmClient, VllmError
from tasks.serving import local as serving
from tasks.serving.keep_alive import Incident
from tasks.serving.target import ModelToServe
from tasks.serving.vllm_command import vllm_command

pytestmark = pytest.mark.live


def until(condition: Callable[[], bool], timeout_s: float) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "waited in vain"
        time.sleep(0.1)
    return time.monotonic() - began


def engine(folder: Path) -> psutil.Process:
    """vLLM's EngineCore, which runs the model: of the API server's children the one with the weights."""
    process = processes.find("vllm", folder)
    assert process is not None
    children = psutil.Process(process.pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss if child.ppid() != process.pid else 0)


def test_an_adapter_is_loaded_listed_probed_and_forgotten(client: VllmClient, vllm, tiny_loras) -> None:
    first, second = tiny_loras
    client.load_adapter("live-first", first)
    try:
        assert client.models() == {"base": str(vllm.model_folder), "live-first": str(first)}
        client.verify("live-first", first)
        client.load_adapter("live-first", first)
        with pytest.raises(VllmError, match="not from"):
            client.load_adapter("live-first", second)
    finally:
        client.unload_adapter("live-first")
    client.unload_adapter("live-first")
    assert "live-first" not in client.models()
    with pytest.raises(VllmError, match="does not exist"):
        client.probe("live-first")
    client.probe("base")


def test_vllms_own_words_reach_the_error(client: VllmClient, tmp_path: Path) -> None:
    with pytest.raises(VllmError, match="No adapter found"):
        client.load_adapter("live-missing", tmp_path / "nothing")


async def logprobs(http: httpx.AsyncClient, model: str, prompt: str) -> list[float]:
    body = {"model": model, "prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 1, "ignore_eos": True}
    answer = (await http.post("/v1/completions", json=body)).raise_for_status().json()
    return list(answer["choices"][0]["logprobs"]["token_logprobs"])


def test_adapters_in_the_same_batch_leave_the_base_model_alone(client: VllmClient, vllm, tiny_loras) -> None:
    names = ("live-a", "live-b")
    prompts = [f"Question {number}: the capital of France is" for number in range(4)]

    async def scenario() -> tuple[list[list[float]], list[list[float]]]:
        async with httpx.AsyncClient(base_url=vllm.url, timeout=600, trust_env=False) as http:
            alone = await asyncio.gather(*(logprobs(http, "base", prompt) for prompt in prompts))
            others = (logprobs(http, name, f"Story {number}: once upon a") for number in range(4) for name in names)
            mixed = await asyncio.gather(*(logprobs(http, "base", prompt) for prompt in prompts), *others)
            return list(alone), list(mixed[: len(prompts)])

    try:
        for name, folder in zip(names, tiny_loras, strict=True):
            client.load_adapter(name, folder)
        alone, mixed = asyncio.run(scenario())
    finally:
        for name in names:
            client.unload_adapter(name)
    for expected, found in zip(alone, mixed, strict=True):
        assert found == pytest.approx(expected, abs=1e-3)


def test_bad_arguments_end_the_start_with_vllms_last_lines_and_leave_nothing(vllm, tmp_path: Path) -> None:
    config = vllm.config.model_copy(update={"port": 1, "extra_args": ("--max-num-batched-tokens", "-5")})
    command = vllm_command(config, "base", vllm.model_folder, 1024)
    with pytest.raises(SlipwayError) as caught:
        processes.start(command, tmp_path, ready=lambda: False, timeout_s=600, attached=True)
    assert "vllm died at start (exit status 1)" in str(caught.value)
    assert "rror" in str(caught.value)
    assert processes.remembered("vllm", tmp_path) is None


def test_the_whole_life_of_an_environment(
    environment: Environment, base_model: Path, tiny_loras, tmp_path: Path
) -> None:
    """Up, the engine killed, noticed, restarted, adapters gone, down: nothing left."""
    said: list[str] = []
    events: list[Incident] = []
    tell = lambda *step: said.append(step[2])  # noqa: E731
    target = serving.LocalProcesses(environment, tmp_path)
    with target.up(ModelToServe("base", base_model), tell, attached=True):
        where = serving.addresses(environment)
    keeper = target.watch(ModelToServe("base", base_model), attached=True)

    def seen(kind: str) -> bool:
        events.extend(keeper.check(time.monotonic()))
        return any(event.kind == kind for event in events)

    try:
        assert any("loading the weights" in text or "KV cache" in text for text in said)
        with pytest.raises(SlipwayError, match=rf"port {environment.vllm.port} .*process \d+"):
            require_free(Port("127.0.0.1", environment.vllm.port, "environment.yaml: vllm.port"))
        with VllmClient(where.vllm_url) as client:
            client.load_adapter("live-x", tiny_loras[0])
            assert keeper.check(time.monotonic()) == ()
            engine(serving.environment_folder(environment, tmp_path)).kill()
            until(lambda: seen("died"), 120)
            assert "engine" in events[0].text.lower()
            until(lambda: seen("back"), 600)
            assert [(event.name, event.kind) for event in events] == [
                ("vllm", "died"),
                ("vllm", "restarting"),
                ("vllm", "back"),
            ]
            assert client.models() == {"base": str(base_model)}
            client.load_adapter("live-x", tiny_loras[0])
            client.verify("live-x", tiny_loras[0])
    finally:
        everything = [one for part in target.state() if part.pid for one in family(part.pid)]
        assert target.down() == ("gateway", "vllm")
    assert len(everything) >= 5  # two guards, the gateway, vLLM's API server and its engine
    assert not [one for one in everything if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
