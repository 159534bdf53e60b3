"""How many adapters one vLLM carries, and what it saves that a gateway keeps a model's users on few replicas.

`python -m benchmarks.adapters --json PATH [--adapters N ...] [--replicas N] [--requests N] [--home FOLDER]`

First one vLLM is asked by so many users at once, who take 1, 8, 32, 100 adapters in turn. Then several replicas with
little memory for prefixes serve a route for each of some adapters, each with a long prompt of its own, through the
gateway: once every request goes to the replica with the least to do, once a model has a home. Both ways are measured
twice, in turn, on replicas whose caches were emptied by a restart before.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.adapters.load import Request, drive
from benchmarks.adapters.loras import write_loras
from benchmarks.gateway.servers import free_port, running
from configs.environment import VllmConfig
from configs.project import load_project
from delivery.clients.processes import local as processes
from delivery.clients.vllm import VllmClient
from tasks.serving.local import vllm_health
from tasks.serving.vllm_command import phase, vllm_command
from tasks.training.model import prepare_model

TUTOR = Path(__file__).parents[2] / "configs" / "tutor"
RANK = 8
AT_ONCE = 8
QUESTION = "What is the third angle of a triangle with angles of 50 and 60 degrees?"
TOKENS = 16
CONTEXT_TOKENS = 1024


def main() -> None:
    """Measures and writes one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters")
    parser.add_argument("--json", type=Path, required=True, dest="output")
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 8, 32, 100], help="in turn behind one vLLM")
    parser.add_argument("--requests", type=int, default=96, help="of each measurement")
    parser.add_argument("--replicas", type=int, default=2, help="behind the gateway; 0 leaves this part out")
    parser.add_argument("--routes", type=int, default=16, help="behind the gateway, an adapter each")
    parser.add_argument("--prompt-tokens", type=int, default=400, help="of each route's own prompt, about")
    parser.add_argument("--kv-cache-gib", type=float, default=0.3, help="of each replica behind the gateway")
    parser.add_argument("--home", type=Path, default=None, help="where the base model is kept or was prepared")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slipway-adapters-") as scratch:
        found = measure(given, (given.home or Path(scratch)).absolute(), Path(scratch))
    given.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


def measure(given: argparse.Namespace, home: Path, scratch: Path) -> dict[str, Any]:
    """All figures; seconds of wall time."""
    base = prepare_model(load_project(TUTOR).model, home)
    loras = write_loras(base, scratch / "loras", max([*given.adapters, given.routes]), RANK)
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "rank": RANK,
        "adapter_mib": round((loras[0] / "adapter_model.safetensors").stat().st_size / 2**20, 1),
        "at_once": AT_ONCE,
        "one_vllm": in_turn(base, loras, given, scratch),
    }
    if given.replicas:
        found["behind_the_gateway"] = shared_out(base, loras[: given.routes], given, scratch)
    return found


def in_turn(base: Path, loras: Sequence[Path], given: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """One vLLM that has all adapters in memory: figures for each number of adapters in use."""
    rows = []
    config = VllmConfig(port=free_port(), max_loras=AT_ONCE, max_cpu_loras=max(len(loras), AT_ONCE))
    with vllm(base, config, scratch / "one"):
        loaded_s = load(config, loras)
        message = ({"role": "user", "content": QUESTION},)
        for count in given.adapters:
            requests = [Request(loras[n % count].name, message, TOKENS) for n in range(given.requests)]
            drive(url_of(config), requests[: 2 * AT_ONCE], AT_ONCE)
            rows.append({"adapters": count} | drive(url_of(config), requests, AT_ONCE))
    return [{"load_s_each": round(loaded_s / len(loras), 3)} | row for row in rows]


def shared_out(base: Path, loras: Sequence[Path], given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Replicas behind the gateway: least to do, and a home for each model, in turn and twice."""
    ways: dict[str, list[dict[str, Any]]] = {"least_to_do": [], "one_home": []}
    options = {"least_to_do": (), "one_home": ("--homes", "1")}
    for turn in range(2):
        for name in ways:
            ways[name].append(one_way(base, loras, given, scratch / f"{name}-{turn}", options[name]))
    best = {name: max(row["requests_per_s"] for row in rows) for name, rows in ways.items()}
    setting = {"replicas": given.replicas, "routes": len(loras), "kv_cache_gib": given.kv_cache_gib}
    return setting | ways | {"ratio": round(best["one_home"] / best["least_to_do"], 2)}


def one_way(
    base: Path, loras: Sequence[Path], given: argparse.Namespace, folder: Path, options: Sequence[str]
) -> dict[str, Any]:
    """Fresh replicas and a fresh gateway with these options, under the same requests."""
    configs = [
        VllmConfig(port=free_port(), max_loras=4, max_cpu_loras=len(loras), cpu_kv_cache_gib=given.kv_cache_gib)
        for _ in range(given.replicas)
    ]
    with ExitStack() as stack:
        for number, config in enumerate(configs):
            stack.enter_context(vllm(base, config, folder / f"vllm-{number}"))
            load(config, loras)
        urls = [url_of(config) for config in configs]
        table = folder / "table.yaml"
        table.write_text(yaml.safe_dump(routes(loras, urls, given.prompt_tokens)), encoding="utf-8")
        port, admin = free_port(), free_port()
        command = [sys.executable, "-m", "delivery.gateway", "--port", str(port), "--admin-port", str(admin)]
        gateway = running("gateway", [*command, "--table", str(table), *options], port, 0, folder, "/readyz")
        stack.enter_context(gateway)
        message = ({"role": "user", "content": QUESTION},)
        order = [loras[n * 7 % len(loras)].name for n in range(given.requests)]
        figures = drive(f"http://127.0.0.1:{port}", [Request(name, message, TOKENS) for name in order], AT_ONCE)
        return figures | prefixes(urls)


def routes(loras: Sequence[Path], urls: Sequence[str], prompt_tokens: int) -> dict[str, Any]:
    """A routing table with a route for each adapter, whose prompt begins like no other's."""
    filler = " ".join(["You answer patiently and ask one question at a time."] * (prompt_tokens // 10))
    return {
        "revision": 1,
        "routes": {
            lora.name: {
                "salt": lora.name,
                "epoch": "1",
                "stable": "lora",
                "variants": {
                    "lora": {"model": lora.name, "upstreams": list(urls), "system_prompt": f"{lora.name}: {filler}"}
                },
            }
            for lora in loras
        },
    }


def prefixes(urls: Sequence[str]) -> dict[str, Any]:
    """The share of all prompt tokens that the replicas had in their prefix caches."""
    asked, found = 0.0, 0.0
    for url in urls:
        for line in httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text.splitlines():
            name, _, value = line.rpartition(" ")
            asked += float(value) if name.startswith("vllm:prefix_cache_queries_total") else 0.0
            found += float(value) if name.startswith("vllm:prefix_cache_hits_total") else 0.0
    return {"prompt_tokens": int(asked), "in_prefix_cache": round(found / asked, 3) if asked else None}


@contextmanager
def vllm(base: Path, config: VllmConfig, folder: Path) -> Iterator[None]:
    """One that serves the base model until the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    processes.start(
        vllm_command(config, "base", base, CONTEXT_TOKENS),
        folder,
        ready=lambda: vllm_health(url_of(config)) == "ok",
        timeout_s=config.start_timeout_s,
        attached=True,
        phase=phase,
    )
    try:
        yield
    finally:
        processes.stop("vllm", folder)


def load(config: VllmConfig, loras: Sequence[Path]) -> float:
    """Loads all; seconds."""
    began = time.monotonic()
    with VllmClient(url_of(config)) as client:
        for lora in loras:
            client.load_adapter(lora.name, lora)
    return time.monotonic() - began


def url_of(config: VllmConfig) -> str:
    """Where it listens."""
    return f"http://{config.host}:{config.port}"


if __name__ == "__main__":
    main()
