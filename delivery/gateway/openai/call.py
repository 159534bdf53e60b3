"""A request between its two shapes: what the client sent, and what a variant's model is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from configs.routing import Policy, Route, Variant
from delivery.gateway.openai.endpoints.endpoint import Endpoint
from delivery.gateway.openai.errors import ApiError

TYPED = (("stream", bool), ("stream_options", dict), ("user", str), ("safety_identifier", str))
REPLICAS_THAT_SEE_IT = 2  # and fail: a request of which replicas die takes no more of them along
KEY_LIMIT = 512  # characters of a user's key that count


@dataclass(slots=True, eq=False)
class Call:
    """One user's request under the table of the moment it arrived. Nobody changes it, but for what became of it."""

    request_id: str
    name: str  # the route's
    route: Route
    body: dict[str, Any]
    user_key: str  # the request's id when there is no user
    user: str  # the pseudonym in records, or ""
    stream: bool
    wants_usage: bool
    endpoint: Endpoint
    client: str = ""  # the API key's name, where keys are required
    size: int = 0  # bytes of the body
    vouched: bool = True  # an API key or the operator stands behind the user's name
    decides: bool = False  # its parameters, not the model, decide what can be said
    taken: int = 0  # tokens, by all attempts to answer it
    chosen: str | None = None  # the variant that the table names for this tester
    seen: set[str] = field(default_factory=set)  # base URLs of replicas that had it and failed

    def asked(self) -> bytes:
        """What the client said, as JSON."""
        return orjson.dumps(self.endpoint.asked(self.body))

    def may_reach(self, upstream: str, variant: str) -> bool:
        """Whether this replica may see it too: two at most do, and of them one that stable can take over with."""
        seen = self.seen | {upstream}
        if len(seen) > REPLICAS_THAT_SEE_IT:
            return False
        stable = self.route.stable
        return len(seen) == 1 or variant == stable or not seen.isdisjoint(self.route.variants[stable].upstreams)


def parse(raw: bytes, endpoint: Endpoint) -> dict[str, Any]:
    """The body as a dict whose `model`, `stream`, `user` and messages (prompt, input) are well formed.

    Raises ApiError (400).
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    if not isinstance(body.get("model"), str):
        raise ApiError(400, "`model` must be a string: the name of a route.", code="invalid_type", param="model")
    endpoint.check(body)
    for name, kind in TYPED:
        value = body.get(name)
        if value is not None and not isinstance(value, kind):
            raise ApiError(400, f"`{name}` must be a {kind.__name__}.", code="invalid_type", param=name)
    return body


def user_key(policy: Policy, headers: Mapping[str, str], body: Mapping[str, Any], client: str = "") -> str:
    """Whom the share's hash is about: who is named (`named_user`), else the bearer token, else "" (nobody known).

    Where keys are required, users are the client's own: its name comes first, and stands alone for no other name.
    """
    key = named_user(policy, headers, body)
    if client:
        return f"{client}\n{key}"
    if not key:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    return key[:KEY_LIMIT]


def named_tester(policy: Policy, headers: Mapping[str, str], body: Mapping[str, Any], client: str) -> str:
    """What a table calls this user among its testers: `client/user` where keys are required (no client has a slash)."""
    user = named_user(policy, headers, body)
    return f"{client}/{user}" if client else user


def named_user(policy: Policy, headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """Who the client says is asking: the first of the policy's headers that is there, else of its fields, else ""."""
    for header in policy.user_headers:
        if named := headers.get(header):
            return named[:KEY_LIMIT]
    for field_name in policy.user_fields:
        if isinstance(named := _at(body, field_name), str | int) and not isinstance(named, bool) and named != "":
            return str(named)[:KEY_LIMIT]
    return ""


def _at(body: Mapping[str, Any], path: str) -> Any:
    value: Any = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def for_variant(call: Call, variant: Variant, context: int | None = None) -> bytes:
    """The body that the variant's model is sent. Raises ApiError (400) if none of the client's messages is left.

    `context`: how many tokens a prompt and its answer may have together, if that is known.
    """
    sent = call.endpoint.sent(call.body, variant, call.route.policy)
    sent["model"] = variant.model
    if call.endpoint.limits:
        _fill_in(sent, variant, call, context)
    try:
        return orjson.dumps(sent)
    except orjson.JSONEncodeError as error:  # nested deeper than anything that a model reads
        raise ApiError(400, f"The body cannot be passed on: {error}.", code="invalid_json") from None


def _fill_in(sent: dict[str, Any], variant: Variant, call: Call, context: int | None) -> None:
    policy, endpoint = call.route.policy, call.endpoint
    if variant.parameters:
        for name, value in endpoint.in_its_words(variant.parameters).items():
            if sent.get(name) is None:
                sent[name] = value
    if variant.temperature is not None and sent.get("temperature") is None:
        sent["temperature"] = variant.temperature
    if not (variant.max_tokens or policy.max_tokens):
        return
    for name in endpoint.limits:
        if sent.get(name) is not None:
            return
    limits = (variant.max_tokens, policy.max_tokens, context)
    sent[endpoint.limits[0]] = min([most for most in limits if most is not None])
