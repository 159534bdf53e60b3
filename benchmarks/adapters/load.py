"""A closed loop of users over many models: each waits for an answer before asking the next model."""

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.gateway.load import quantile


@dataclass(frozen=True)
class Request:
    """What one user sends: a model's name, its messages, and how many tokens the answer has."""

    model: str
    messages: tuple[dict[str, str], ...]
    tokens: int


def drive(url: str, requests: Sequence[Request], at_once: int) -> dict[str, Any]:
    """Sends all, so many at once, in turn; figures of whole answers. Raises RuntimeError where one failed."""
    taken, lock = itertools.count(), threading.Lock()
    latencies: list[float] = []
    failures: list[str] = []

    def work() -> None:
        with httpx.Client(base_url=url, timeout=600, trust_env=False) as client:
            while (number := next(taken)) < len(requests):
                one = requests[number]
                body = {"model": one.model, "messages": list(one.messages), "max_tokens": one.tokens}
                began = time.monotonic()
                answer = client.post("/v1/chat/completions", json=body | {"ignore_eos": True})
                with lock:
                    latencies.append(time.monotonic() - began)
                    if answer.status_code != 200:
                        failures.append(answer.text[:200])

    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(work) for _ in range(at_once)]:
            done.result()
    took_s = time.monotonic() - began
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(requests)} requests failed, e.g. {failures[0]}")
    return {
        "requests": len(requests),
        "requests_per_s": round(len(requests) / took_s, 2),
        "tokens_per_s": round(sum(one.tokens for one in requests) / took_s, 1),
        "p50_s": round(quantile(latencies, 0.5), 2),
        "p95_s": round(quantile(latencies, 0.95), 2),
    }
