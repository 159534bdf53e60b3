"""Which engine answers: all that an answer can depend on besides who is asked what. It is part of every result's key.

A result that was measured in bfloat16 is no result for float32; the same holds for another vLLM, context, base model,
tokenizer or chat template. What a cache does not name, it mixes up.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import httpx

from configs.errors import SlipwayError
from configs.project import Project
from delivery.clients.processes import local as processes
from tasks.evals.model_server import ENVIRONMENTS, OWN
from tasks.serving.local import environment_folder
from tasks.serving.vllm_command import PLUGIN_FOLDER, vllm_command
from tasks.training.model import model_revision

_PLACES = frozenset(("host", "port", "model", "served-model-name"))  # where it is, and what is told otherwise
_IDLE = frozenset(("VLLM_API_KEY", "VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "VLLM_CONFIG_ROOT", "VLLM_CACHE_ROOT"))


def engine_of(
    project: Project,
    base: Path,
    home: Path,
    vllm_url: str,
    api_key: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The engine that serves at this URL, in words; equal words mean that its answers may be compared.

    What it was started with is read from the process that runs; of one that was started elsewhere, the project's
    settings stand for it. Raises SlipwayError when vLLM does not answer.
    """
    folder = environment_folder(project.environment, home)
    running = (processes.remembered(name, folder) for name in (OWN, ENVIRONMENTS))
    process = next((one for one in running if one is not None and one.alive()), None)
    config = project.environment.vllm
    settings = (
        process.settings
        if process is not None
        else vllm_command(config, project.model.name, base, project.model.max_context_tokens).settings
    )
    return {
        **{f"vllm {name}": value for name, value in sorted(settings.items()) if name not in _PLACES},
        **{f"environment {name}": value for name, value in _tuned(environment).items()},
        **asked_for(vllm_url, api_key),
        "base model": model_revision(base),
        "plugin": plugin_digest(),
    }


def asked_for(vllm_url: str, api_key: str | None = None) -> dict[str, str]:
    """What vLLM says of itself: its version, and the longest context that it takes, in tokens."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with httpx.Client(base_url=vllm_url, headers=headers, timeout=30, trust_env=False) as client:
            version = client.get("/version").raise_for_status().json()["version"]
            models = client.get("/v1/models").raise_for_status().json()["data"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise SlipwayError(
            f"vLLM does not say its version and models: {error}",
            where=vllm_url,
            cure="see whether it still runs, and its log",
        ) from error
    lengths = [int(length) for model in models if (length := model.get("max_model_len"))]
    return {"vllm version": str(version), "vllm context": str(max(lengths, default=0))}


def plugin_digest(folder: Path = PLUGIN_FOLDER) -> str:
    """Of the code that this project loads into vLLM."""
    whole = sha256()
    for path in sorted(folder.rglob("*.py")):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"sha256:{whole.hexdigest()}"


def _tuned(environment: Mapping[str, str]) -> dict[str, str]:
    """vLLM's own variables that somebody set, but for those that no answer depends on, and for secrets."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith("VLLM_") and name not in _IDLE and not name.endswith(("KEY", "TOKEN")) and "LOG" not in name
    }
