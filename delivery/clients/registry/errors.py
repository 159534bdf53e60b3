"""What registries answer, in words: what happened, where, and what to do. Nothing of a login is ever in them."""

import json
import re
from collections.abc import Callable

import requests

from configs.errors import SlipwayError

AGAIN = "repeat the command: what has arrived is kept, and is not sent or fetched again"
SHOWN_CHARS = 200


class RegistryError(SlipwayError):
    """The registry refused, lied, or could not be reached; `status` is 0 when it did not answer."""

    def __init__(self, what: str, *, status: int = 0, where: str = "", cure: str = ""):
        super().__init__(what, where=where, cure=cure)
        self.status = status

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _rebuilt, (type(self), self.what, self.status, self.where, self.cure)


class PassingError(RegistryError):
    """One that may well pass by itself: it is tried again."""


class LyingRegistryError(RegistryError):
    """What came is not what was asked for."""


def _rebuilt(kind: type[RegistryError], what: str, status: int, where: str, cure: str) -> RegistryError:
    return kind(what, status=status, where=where, cure=cure)


def unreachable(error: requests.RequestException, where: str, timeout_s: float) -> RegistryError:
    """No answer, or one that broke off."""
    text = re.sub(r"\s+", " ", str(error))
    if isinstance(error, requests.exceptions.SSLError):
        return RegistryError(
            f"the registry's certificate is not trusted, or it speaks no TLS: {_reason(text)}",
            where=where,
            cure="name its authority: registry.ca_file in environment.yaml, or SSL_CERT_FILE; registry.plain_http is"
            " for a registry without TLS",
        )
    if isinstance(error, requests.Timeout):
        what = f"the registry did not answer within {timeout_s:g} s"
        return PassingError(what, where=where, cure=f"{AGAIN}, or raise registry.timeout_s in environment.yaml")
    return PassingError(
        f"the registry cannot be reached, or broke off: {_reason(text)}",
        where=where,
        cure=f"see that it runs and that its name is right, and {AGAIN}",
    )


def refused(response: requests.Response, text: bytes, where: str, *, has_login: bool) -> RegistryError:
    """An answer that is none of the wanted ones. `text` is the beginning of its body."""
    status, host = response.status_code, where.partition("/")[0]
    said = _said(text)
    kind, what, cure = RegistryError, f"the registry answers {status}{said}", "see the registry's log"
    if status == 401 and has_login:
        what, cure = f"the registry does not accept this login{said}", f"log in anew: docker login {host}"
    elif status == 401:
        what = f"the registry wants a login{said}"
        cure = f"docker login {host}, or set SLIPWAY_REGISTRY_USER and SLIPWAY_REGISTRY_PASSWORD"
    elif status == 403:
        what, cure = f"this login may not do that{said}", "ask for the right to pull, or push, in this repository"
    elif status == 404:
        what, cure = f"the registry does not have it{said}", "see that repository, tag and digest are right"
    elif status == 413:
        what = f"the registry, or a proxy before it, takes no upload of that size{said}"
        cure = "raise its limit (nginx: client_max_body_size)"
    elif status == 507 or (status >= 500 and re.search(rb"no space|quota|disk full", text, re.IGNORECASE)):
        what, cure = f"the registry is full{said}", f"make room there, and {AGAIN}"
    elif status == 429 or status >= 500:
        kind, cure = PassingError, f"{AGAIN}; if it stays, see the registry's log"
    return kind(what, status=status, where=where, cure=cure)


def _said(text: bytes) -> str:
    try:
        named = json.loads(text)["errors"]
        text = "; ".join(f"{one.get('code', '')} {one.get('message', '')}".strip() for one in named).encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # not the registries' usual form: shown as it is
    shown = re.sub(r"[^\x20-\x7e]+", " ", text.decode("utf-8", "replace")).strip()[:SHOWN_CHARS]
    return f": {shown}" if shown else ""


def _reason(text: str) -> str:
    """The last, innermost part of what requests says, without the addresses of objects."""
    text = re.sub(r"<[^>]*>:? ?", "", text)
    inner = re.findall(r"Caused by \w+\((.*)\)\)*$", text)
    return (inner[-1] if inner else text).strip("()'\" ")[:SHOWN_CHARS]
