"""What llhttp lets through and a server should refuse: other versions, odd hosts and targets, doubled headers.

Two servers in a row must not read one request as two different ones.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

ONLY_ONE = frozenset(("host", "content-length", "transfer-encoding", "content-type", "authorization", "expect"))
TWO_BLANKS = re.compile(rb"[A-Z-]+ \S* {2,}HTTP/|[A-Z-]+ {2,}")  # in a request's line
_HOST = re.compile(r"[^\s/?#@\\<>\"{}|^`,]*", re.ASCII)


def is_faulty(method: str, target: bytes, version: str, headers: Mapping[str, str]) -> bool:
    """Whether a request with this head is to be refused with 400. Names of headers are in lower case."""
    coding = headers.get("transfer-encoding")
    if version == "1.1":
        is_odd = coding is not None and coding.strip().lower() != "chunked"
    else:
        is_odd = version != "1.0" or coding is not None
    return is_odd or not _is_host(headers.get("host", "")) or not _leads_somewhere(method, target)


@lru_cache(16)  # clients name few
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _leads_somewhere(method: str, target: bytes) -> bool:
    if method == "CONNECT":
        return False
    return target.startswith(b"/") or (target == b"*" and method == "OPTIONS") or _is_url(target)


def _is_url(target: bytes) -> bool:
    try:
        parts = urlsplit(target.decode("ascii"))
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
