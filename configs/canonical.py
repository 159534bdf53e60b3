"""Content digests: the one way in which this project turns a value into its identity."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; NaN and infinities are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Any) -> str:
    """`sha256:<64 hex digits>` of the canonical JSON of a value made of dicts, lists, strings, numbers."""
    return digest_bytes(canonical_json(value))


def digest_bytes(data: bytes) -> str:
    """`sha256:<64 hex digits>` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def short(digest: str, length: int = 12) -> str:
    """The first hex digits of a digest, for names and for people."""
    return digest.removeprefix("sha256:")[:length]
