"""Whether a client's own parameters, not the model, decided what an answer says.

Such an answer is an answer, even an empty one; and it is no evidence for or against the variant that gave it, since the
same client could make any variant look broken.
"""

from collections.abc import Mapping
from typing import Any

# Which tokens may come at all, or how many answers: whatever is said then is the client's doing.
DECIDING = frozenset(
    ("allowed_token_ids", "bad_words", "ignore_eos", "logit_bias", "min_tokens", "n", "structured_outputs")
)
FEW_TOKENS = 64  # a client's own limit below this leaves no room for an answer
UNSAID = object()  # the model's server does not tell what stopped the model


def are_deciding(body: Mapping[str, Any]) -> bool:
    """Whether the request decides beforehand what can be said."""
    if DECIDING.isdisjoint(body):
        return False
    return any(body[name] and (name, body[name]) != ("n", 1) for name in DECIDING & body.keys())


def is_end_forced(body: Mapping[str, Any], finish_reason: str, stopped_by: Any, *, has_content: bool) -> bool:
    """Whether an answer ended where the client wanted it to: at a stop sequence, or at a limit of a few tokens.

    `stopped_by` is vLLM's `stop_reason`: the text or the token at which it stopped, None for the model's own end.
    """
    if finish_reason == "length":
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
        return isinstance(limit, int) and limit < FEW_TOKENS
    if finish_reason != "stop":
        return False
    texts, tokens = body.get("stop") or (), body.get("stop_token_ids") or ()
    if not (texts or tokens):
        return False
    if stopped_by is UNSAID:
        return not has_content
    return stopped_by in tokens if isinstance(stopped_by, int) else stopped_by is not None
