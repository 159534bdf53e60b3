"""Base URLs of what others run: one that cannot work is refused where it is typed, not at the first request."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

EXAMPLE = "http://127.0.0.1:8100"
API = "/v1"


def base_url(text: str) -> str:
    """The URL without the slash at its end. ValueError names the cure behind an arrow."""
    found = text.rstrip("/")
    problem = _problem(found)
    if problem:
        what, cure = problem
        raise ValueError(f"{text!r} is no base URL: {what} -> {cure}")
    return found


def is_base_url(text: str) -> bool:
    """Whether it can be asked."""
    return _problem(text.rstrip("/")) is None


BaseUrl = Annotated[str, AfterValidator(base_url)]
"""Scheme, host, and perhaps a port and a path in front of /v1: what `/v1/...` is put behind."""


def _problem(text: str) -> tuple[str, str] | None:
    """What is wrong with it, and the cure; None when nothing is."""
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as error:
        return str(error), f"e.g. {EXAMPLE}"
    if parts.scheme not in ("http", "https") or not host:
        bare = re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?(/.*)?", text) and not text.lower().startswith("http")
        return "it needs http:// or https:// and a host", f"e.g. {f'http://{text}' if bare else EXAMPLE}"
    if not host.isascii():
        return "its host is not in ASCII", _in_dns(text, host)
    if not text.isascii() or re.search(r"[\s\x00-\x1f]", text):
        return "it holds spaces, or letters beyond ASCII", f"e.g. {EXAMPLE}"
    if parts.username is not None or parts.password is not None:
        return "it holds a name or a password", "name keys in the environment: SLIPWAY_VLLM_API_KEY"
    if parts.query or parts.fragment or "?" in text or "#" in text:
        return "something follows its path", f"write {text.partition('?')[0].partition('#')[0]}"
    if port == 0 or _idna(host) is None:
        return "nothing can be reached there", f"e.g. {EXAMPLE}"
    if parts.path == API or parts.path.endswith(API):
        return "/v1 is put behind it for each request", f"write {text.removesuffix(API)}"
    return None


def _in_dns(text: str, host: str) -> str:
    name = _idna(host)
    return f"e.g. {EXAMPLE}" if name is None else f"write the name as DNS knows it: {text.replace(host, name)}"


def _idna(host: str) -> str | None:
    """The name as DNS knows it; None where it can have no such name."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return None
