"""A merged model as a candidate: the vLLM that it needs for itself has to serve that model and no other."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from configs.canonical import short
from configs.errors import Problem, SlipwayError
from delivery.build.bundle import Bundle, Merged
from delivery.clients.bundles.adapters import problems_of
from delivery.clients.vllm import VllmClient


def require_own_vllm(bundle: Bundle, upstreams: Sequence[str], vllm: Callable[[str], VllmClient], home: Path) -> None:
    """Every one of these lists the merged model under its name, from a folder that is named by its digest.

    Where that folder is on this machine its bytes are hashed; on another one its name is believed. Raises SlipwayError
    with what is wrong at each.
    """
    merged = bundle.merged
    if merged is None:
        return
    problems = [problem for url in upstreams for problem in _wrong_at(url, bundle, merged, vllm(url))]
    if problems or not upstreams:
        folder = home / "merged" / short(merged.digest)
        raise SlipwayError(
            f"no vLLM serves merged model {short(merged.digest)} for bundle {short(bundle.digest)}",
            problems=problems,
            cure=f"start one: python -m vllm.entrypoints.openai.api_server --model {folder} --served-model-name"
            f" {bundle.served_name}, and name it: slipway release {short(bundle.digest)} --candidate-upstream URL",
        )


def _wrong_at(url: str, bundle: Bundle, merged: Merged, client: VllmClient) -> list[Problem]:
    listed = client.models()
    root = listed.get(bundle.served_name)
    if root is None:
        return [Problem(url, f"it serves {', '.join(sorted(listed)) or 'nothing'}, not {bundle.served_name}")]
    if PurePosixPath(root).name != short(merged.digest):
        return [Problem(url, f"its model comes from {root}, a folder that is not named {short(merged.digest)}")]
    return problems_of(merged, Path(root)) if Path(root).is_dir() else []
