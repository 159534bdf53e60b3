"""Which web pages may ask from a browser: what the CORS protocol wants to hear, for origins that the operator names."""

from collections.abc import Mapping, Set

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization, Content-Type, X-Slipway-User",
    "Access-Control-Max-Age": "600",
}
EXPOSED = "x-request-id, x-slipway-request-id, x-slipway-variant, retry-after"


def allowing(origins: Set[str], origin: str) -> Mapping[str, str]:
    """Headers of an answer to a page of this origin. `*` among the origins allows any."""
    if "*" not in origins and origin not in origins:
        return {"Vary": "Origin"}
    allowed = "*" if "*" in origins else origin
    return {"Access-Control-Allow-Origin": allowed, "Access-Control-Expose-Headers": EXPOSED, "Vary": "Origin"}
