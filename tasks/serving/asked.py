"""Every replica and every gateway of a place asked one thing at the same time, and what their answers mean."""

import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import httpx

from configs.errors import SlipwayError
from delivery.clients.at_once import at_once
from delivery.clients.gateway import GatewayClient
from delivery.clients.vllm import VllmClient, VllmError, VllmUnavailableError
from tasks.serving.local import VLLM_KEY
from tasks.serving.target import Members

ANSWER_S = 2.0
T = TypeVar("T")
C = TypeVar("C", VllmClient, GatewayClient)


def ask_everyone(
    members: Members, token: str, replica: Callable[[VllmClient], T], gateway: Callable[[GatewayClient], T]
) -> dict[str, T | SlipwayError]:
    """Each one's answer by URL; an answer takes two seconds at most. `token` opens the gateways' admin API."""
    key = os.environ.get(VLLM_KEY) or None
    calls: dict[str, Callable[[], T]] = {}
    for url in members.replicas:
        calls[url] = partial(_with, partial(VllmClient, url, key, ANSWER_S), replica)
    for url in members.gateways:
        calls[url] = partial(_with, partial(GatewayClient, url, token, ANSWER_S), gateway)
    return at_once(calls)


def require_serves(client: VllmClient, model_name: str | None) -> None:
    """Raises VllmError for a vLLM whose engine died, or that does not serve the model, if one is named."""
    if client.health() == httpx.codes.SERVICE_UNAVAILABLE:
        raise VllmError("it says that its engine died")
    served = client.models()
    if model_name is not None and model_name not in served:
        names = ", ".join(sorted(served)) or "nothing"
        raise VllmError(f"it serves {names}, not {model_name}", cure=f"start it with --served-model-name {model_name}")


def require_ours(client: GatewayClient) -> None:
    """Raises GatewayError for a gateway that does not take our token."""
    client.table()


def models_of(client: VllmClient) -> frozenset[str]:
    """What it has: names of models."""
    return frozenset(client.models())


def table_of(client: GatewayClient) -> frozenset[str]:
    """What it has: a routing table, or nothing."""
    table = client.table()
    return frozenset() if table is None else frozenset({"its routing table"})


def why(answer: object) -> str:
    """What is the matter with whoever gave this answer; empty when nothing is."""
    if not isinstance(answer, SlipwayError):
        return ""
    advises = answer.cure and not isinstance(answer, VllmUnavailableError)
    return f"{answer.what} -> {answer.cure}" if advises else answer.what


def _with(client: Callable[[], C], ask: Callable[[C], T]) -> T:
    with client() as opened:
        return ask(opened)
