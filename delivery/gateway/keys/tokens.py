"""How many tokens a request may take, by the thumb, and how many an attempt to answer it took."""

import sys

from delivery.gateway.openai.call import Call
from delivery.gateway.openai.policies import AMOUNTS, prompts_in
from delivery.gateway.records.attempts import Attempt

BYTES_PER_TOKEN = 4  # where upstream has not counted (yet)


def prompt_tokens(call: Call) -> int:
    """What the prompt takes, by the thumb."""
    stable = call.route.variants[call.route.stable]
    return (call.size + len(stable.system_prompt or "")) // BYTES_PER_TOKEN


def tokens_at_most(call: Call, context: int | None = None) -> int:
    """What an answer to this request may take: its prompt by the thumb, and as many as it may be answered with.

    `context`: how many tokens the model takes, prompt and answer together. What nobody limits may take any number.
    """
    stable = call.route.variants[call.route.stable]
    prompt = prompt_tokens(call)
    if not call.endpoint.limits:
        return prompt
    body, policy, most = call.body, call.route.policy, sys.maxsize
    if AMOUNTS.isdisjoint(body):
        return prompt + min(stable.max_tokens or most, policy.max_tokens or most, context or most)
    if asked := [body[name] for name in call.endpoint.limits if body.get(name) is not None]:
        answer = max(_count(limit) for limit in asked)
    else:
        answer = min(stable.max_tokens or most, policy.max_tokens or most, context or most)
    choices = max(_count(body.get("n") or 1), _count(body.get("best_of") or 1), 1)
    return prompt + max(0, answer) * choices * prompts_in(body)


def is_limited(call: Call) -> bool:
    """Whether the client, or the variant, says how long the answer may be."""
    stable = call.route.variants[call.route.stable]
    limits = call.endpoint.limits
    if stable.max_tokens is not None or not limits:
        return True
    return any(call.body.get(name) is not None for name in limits)


def _count(value: object) -> int:
    """A client's number. Some models' servers take 1e3 and "1000" too: what is no whole number may be any."""
    return value if isinstance(value, int) else sys.maxsize


def tokens_taken(attempt: Attempt) -> int:
    """What an attempt costs: what the model counted, or what was delivered by the thumb; a failure before, nothing."""
    if attempt.ttft_s is None and (not attempt.ok or attempt.error == "declined"):
        return 0
    if attempt.prompt_tokens is not None:
        return attempt.prompt_tokens + (attempt.completion_tokens or 0)
    return attempt.sent_bytes // BYTES_PER_TOKEN + attempt.chunks
