"""What a route's policy says of a request: parameters, how much, grammars and media, before anything is spent on it."""

from collections.abc import Iterator, Mapping
from typing import Any

from configs.routing import Policy
from delivery.gateway.openai.endpoints.endpoint import Endpoint
from delivery.gateway.openai.errors import ApiError, not_allowed

SCHEMA_PATTERNS = ("pattern", "patternProperties")
JSON_FORMATS = frozenset(("text", "json_object", "json_schema"))
AMOUNTS = frozenset(("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "prompt"))
GUIDES = frozenset(("response_format", "structured_outputs", "tools", "functions", "text"))


def check_policy(policy: Policy, endpoint: Endpoint, body: Mapping[str, Any]) -> None:
    """Raises ApiError: 404 for an endpoint that the route does not serve, 400 for what its clients may not set."""
    if endpoint.name not in policy.endpoints:
        what = f"The model `{body['model']}` is not served at {endpoint.path}."
        raise ApiError(404, what, code="endpoint_not_served", param="model")
    _check_parameters(policy, endpoint, body)
    if not AMOUNTS.isdisjoint(body):
        _check_amounts(policy, body)
    if not GUIDES.isdisjoint(body):
        _check_guides(policy, body)
    endpoint.allows(policy, body)


def _check_parameters(policy: Policy, endpoint: Endpoint, body: Mapping[str, Any]) -> None:
    if not endpoint.parameters.issuperset(body):
        for unknown in body.keys() - endpoint.parameters:
            if unknown not in policy.allowed_parameters and body[unknown] is not None:
                name = unknown[:100]
                raise ApiError(400, f"Unknown parameter: `{name}`.", code="unknown_parameter", param=name)
    for name in policy.refused_parameters:
        if body.get(name) is not None or (name == "max_tokens" and body.get("max_completion_tokens") is not None):
            raise not_allowed(name, f"`{name}` cannot be set for this model.")


def _check_amounts(policy: Policy, body: Mapping[str, Any]) -> None:
    for name, most in (
        ("max_tokens", policy.max_tokens),
        ("max_completion_tokens", policy.max_tokens),
        ("max_output_tokens", policy.max_tokens),
        ("n", policy.max_choices),
        ("best_of", policy.max_choices),
    ):
        asked = body.get(name)
        if most is not None and asked is not None and (not isinstance(asked, int) or asked > most):
            raise not_allowed(name, f"`{name}` must be a whole number up to {most} for this model.")
    most, prompts = policy.max_choices, prompts_in(body)
    if most is not None and prompts > 1 and prompts * (body.get("n") or 1) > most:
        raise not_allowed("prompt", f"At most {most} answers to one request are given by this model.")


def prompts_in(body: Mapping[str, Any]) -> int:
    """How many prompts a text completion has: a list of texts, or of lists of tokens, is that many."""
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1


def _check_guides(policy: Policy, body: Mapping[str, Any]) -> None:
    """Grammars and regular expressions are compiled by the model's server, for all of its users."""
    if policy.guided_decoding == "any":
        return
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    taken = ("text",) if policy.guided_decoding == "none" else JSON_FORMATS
    if form is not None and (not isinstance(kind, str) or kind not in taken):
        raise not_allowed("response_format", f"`response_format` must be one of: {', '.join(sorted(taken))}.")
    if body.get("structured_outputs") is not None:
        raise not_allowed("structured_outputs", "`structured_outputs` cannot be set for this model.")
    for name in ("response_format", "tools", "functions", "text"):
        if body.get(name) is not None and any(key in part for part in _objects(body[name]) for key in SCHEMA_PATTERNS):
            raise not_allowed(name, f"`{name}` may hold no patterns for this model.")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Objects that may be schemas: a property may be called `pattern`."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            yield found
            waiting += [
                item
                for name, held in found.items()
                for item in (held.values() if name in ("properties", "$defs") and isinstance(held, dict) else (held,))
            ]
