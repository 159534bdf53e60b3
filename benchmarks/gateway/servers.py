"""What is measured: each server started on a core of its own, in front of the same stub, and ended again."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil
import yaml

KEY = "sk-benchmark-0123456789abcdef"
PEERS = ("litellm[proxy]==1.106.2", "vllm-router==0.1.17")
START_S = 120.0


class SkippedError(Exception):
    """This server cannot be measured here, and why."""


@dataclass(frozen=True)
class Server:
    """One that runs. `cpu_s` and `rss_mib` are of the process with all its children."""

    name: str
    port: int
    process: psutil.Process
    key: str = KEY

    def _family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        return sum(times.user + times.system for times in (one.cpu_times() for one in self._family()))

    def rss_mib(self) -> float:
        """Resident memory."""
        return sum(one.memory_info().rss for one in self._family()) / 2**20


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    core: int,
    folder: Path,
    ready: str = "",
    env: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """The process, once it answers, until the context ends. Raises SkippedError with its last words."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        pinned = lambda: os.sched_setaffinity(0, {core})  # noqa: E731
        process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=pinned, env={**os.environ, **env})
    try:
        _wait(process, f"http://127.0.0.1:{port}{ready}", log)
        yield Server(name, port, psutil.Process(process.pid))
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx.get(url, timeout=2, trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    words = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise SkippedError(f"it did not start: {' | '.join(words)}")


def stub(core: int, folder: Path) -> contextlib.AbstractContextManager[Server]:
    """The upstream of all others."""
    port = free_port()
    return running(
        "stub", [sys.executable, "-m", "benchmarks.gateway.stub", str(port)], port, core, folder, "/v1/models"
    )


def ours(
    upstream: int, core: int, folder: Path, *, features: bool = True, mirror: str | None = None, admin_token: str = ""
) -> contextlib.AbstractContextManager[Server]:
    """The gateway; with every feature on: keys, split, contract, metrics, a log of every tenth request."""
    port, admin_port = free_port(), free_port()
    name = "ours" if features else "ours, plain"
    place = folder / f"gateway-{port}"
    place.mkdir()
    (place / "table.yaml").write_text(yaml.safe_dump(table(upstream, features=features, mirror=mirror)))
    command = [sys.executable, "-m", "delivery.gateway", "--port", str(port), "--admin-port", str(admin_port)]
    command += ["--table", str(place / "table.yaml")]
    if features:
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        client = {"name": "bench", "sha256": [digest], "tokens_per_day": 10**12, "requests_per_minute": 10**9}
        (place / "keys.yaml").write_text(yaml.safe_dump({"keys": [client]}))
        (place / "log.yaml").write_text(yaml.safe_dump({"folder": str(place / "traffic"), "share": 0.1}))
        command += ["--keys", str(place / "keys.yaml"), "--traffic-log", str(place / "log.yaml")]
    return running(name, command, port, core, folder, "/readyz", {"SLIPWAY_ADMIN_TOKEN": admin_token})


def table(
    upstream: int, *, features: bool, mirror: str | None = None, revision: int = 1, candidate: str = "new"
) -> dict[str, object]:
    """The routing table.

    `mirror`: stable takes 20 ms, and every request is copied to a candidate of this model; "": to none.
    """
    prompt = "You are a maths tutor. Ask one guiding question."
    common = {"upstreams": [f"http://127.0.0.1:{upstream}"], "system_prompt": prompt, "max_tokens": 56}
    variants = {
        "base": {"model": "base" if mirror is None else "steady"} | common,
        candidate: {"model": mirror or "new"} | common,
    }
    route: dict[str, object] = {"salt": "bench", "stable": "base", "variants": variants}
    if features:
        shares = {"share_bp": 1_000} if mirror is None else {"mirror_bp": 10_000 if mirror else 0}
        route["candidate"] = {"variant": candidate, **shares}
        route["contract"] = {
            "detectors": {
                "format": {"kind": "form", "max_words": 40, "max_sentences": 3, "ends_with": "question"},
                "refusal": {"kind": "refusal", "opening": "I can only help with maths."},
            }
        }
    return {"revision": revision, "routes": {"tutor": route}}


def nginx(upstream: int, core: int, folder: Path) -> contextlib.AbstractContextManager[Server]:
    """The floor: one worker that only passes on."""
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise SkippedError("nginx is not installed (Debian: apt-get install nginx)")
    port, place = free_port(), folder / "nginx"
    place.mkdir(exist_ok=True)
    (place / "nginx.conf").write_text(
        f"daemon off; master_process off; worker_processes 1; pid {place}/pid; error_log {place}/error.log;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n"
        f" fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n"
        f" upstream stub {{ server 127.0.0.1:{upstream}; keepalive 512; }}\n"
        f" server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000000;\n"
        "  location / { proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ''; "
        "proxy_buffering off; } } }\n"
    )
    return running(
        "nginx", [binary, "-p", str(place), "-c", str(place / "nginx.conf")], port, core, folder, "/v1/models"
    )


def peers_environment(folder: Path) -> Path:
    """An environment of the peers' own, made once. Raises SkippedError."""
    if not (folder / "bin" / "python").exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
        if made.returncode:
            raise SkippedError(f"no environment for the peers: {made.stderr.strip()[-200:]}")
    marker = folder / "installed.txt"
    if not marker.exists() or marker.read_text() != "\n".join(PEERS):
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PEERS]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
        if installed.returncode:
            raise SkippedError(f"the peers cannot be installed: {installed.stderr.strip()[-200:]}")
        marker.write_text("\n".join(PEERS))
    return folder / "bin"


def litellm(upstream: int, core: int, folder: Path, programs: Path) -> contextlib.AbstractContextManager[Server]:
    """LiteLLM's proxy with one worker and a master key, nothing else switched on."""
    port, config = free_port(), folder / "litellm.yaml"
    model = {"model": "openai/base", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    settings = {
        "model_list": [{"model_name": "tutor", "litellm_params": model}],
        "general_settings": {"master_key": KEY},
    }
    config.write_text(yaml.safe_dump(settings))
    command = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1"}
    return running("litellm", [*command, "--num_workers", "1"], port, core, folder, "/health/liveliness", env)


def vllm_router(upstream: int, core: int, folder: Path, programs: Path) -> contextlib.AbstractContextManager[Server]:
    """vLLM's router, round robin over one worker."""
    port = free_port()
    command = [str(programs / "vllm-router"), "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    command += ["--worker-urls", f"http://127.0.0.1:{upstream}", "--policy", "round_robin"]
    command += ["--prometheus-port", str(free_port())]
    return running("vllm-router", command, port, core, folder, "/health")
