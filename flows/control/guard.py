"""The door of the control room: who somebody is, and which requests are let through to the pages at all.

It stands in front of every route and of the pages' websocket. A page of another site can neither act for somebody who
is signed in (Origin and a SameSite=Strict cookie) nor reach the room under a name of its own (Host).
"""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.control_room import ControlRoom
from delivery.clients.people import People, Person
from flows.control.sessions import Sessions, Tries

COOKIE = "slipway_session"
API = "/api/"
OPEN = ("/sign-in", "/sign-out", "/looks.css", "/healthz")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SAFE = ("GET", "HEAD", "OPTIONS")
ANYBODY = Person(name="", roles=frozenset({"viewer"}))
STRICT_CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# NiceGUI starts its pages with inline scripts and styles, and Vue compiles templates in the browser: a page can do
# without neither 'unsafe-inline' nor 'unsafe-eval'. Everything comes from here all the same, and goes only here.
PAGE_CSP = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'; object-src 'none'"
)


@dataclass
class Door:
    """What it takes to know somebody."""

    settings: ControlRoom
    people: People
    clock: Callable[[], float]
    sessions: Sessions = field(init=False)
    tries: Tries = field(default_factory=Tries)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.settings.session_s)

    def who(self, scope: Scope, *, is_use: bool = True) -> Person | None:
        """Who asks: by token, by the proxy's word, by session, or anybody where reading is open to all."""
        headers = Headers(scope=scope)
        if "authorization" in headers:
            return self.people.with_token(_token(headers["authorization"]))
        proxy = self.settings.proxy
        if proxy is not None and address_of(scope) in proxy.addresses and headers.get(proxy.header):
            return self.people.person(headers[proxy.header])
        name = self.sessions.who(session_of(headers), self.clock(), is_use=is_use)
        known = self.people.person(name) if name is not None else None
        if known is None and self.settings.read_without_sign_in:
            return ANYBODY
        return known

    def strange(self, scope: Scope) -> str:
        """Why a request is not even looked at; empty when it is."""
        headers = Headers(scope=scope)
        if _host(headers.get("host", "")) not in self._hosts():
            return "this name of the machine is not the control room's (control_room.public_url names another)"
        origin = headers.get("origin")
        acts = scope["type"] == "websocket" or scope["method"] not in SAFE
        if "authorization" in headers and scope["path"].startswith(API):
            return ""  # a token is never sent by a browser on behalf of another site
        if origin is None:
            return "the request does not say from which page it comes (Origin)" if acts else ""
        if origin not in self._origins(headers.get("host", "")):
            return f"the request comes from a page of {origin}"
        return ""

    def _hosts(self) -> set[str]:
        public = self.settings.public_url
        return {*LOOPBACK, *([_host(urlsplit(public).netloc)] if public else [])}

    def _origins(self, host: str) -> set[str]:
        public = self.settings.public_url
        own = {f"http://{host}"} if _host(host) in LOOPBACK else set()
        return own | ({"{0.scheme}://{0.netloc}".format(urlsplit(public))} if public else set())


class AccessGuard:
    """The ASGI application that stands before all others."""

    def __init__(self, app: ASGIApp, door: Door):
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, with `scope["state"]["person"]`, or answers it."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        sending = _with_headers(send, scope) if scope["type"] == "http" else send
        strange, path = self.door.strange(scope), scope["path"]
        if strange:
            return await _refuse(scope, receive, sending, 403, strange)
        person = self.door.who(scope)
        if person is None and path not in OPEN:
            return await _refuse(scope, receive, sending, 401, "sign in first, or send a token: Authorization: Bearer")
        scope.setdefault("state", {})["person"] = person
        return await self.app(scope, receive, sending)


def _token(header: str) -> str:
    """Of `Bearer TOKEN`, or of `Basic` with the token as password: some programs can only send what a URL holds."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def address_of(scope: Scope) -> str:
    """The peer's address."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def session_of(headers: Headers) -> str:
    """The session's key, as the browser keeps it."""
    cookie = SimpleCookie(headers.get("cookie", ""))
    return cookie[COOKIE].value if COOKIE in cookie else ""


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4401 if status == 401 else 4403, "reason": why[:100]})
        return None
    path = scope["path"]
    if path.startswith(API):
        response = JSONResponse({"detail": why}, status, {"WWW-Authenticate": "Bearer"} if status == 401 else None)
        return await response(scope, receive, send)
    if status == 401 and scope["method"] == "GET" and not path.startswith("/_nicegui"):
        wanted = path + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        return await RedirectResponse(f"/sign-in?next={quote(wanted)}", 303)(scope, receive, send)
    return await PlainTextResponse(f"{why}\n", status)(scope, receive, send)


def _with_headers(send: Send, scope: Scope) -> Send:
    is_page = not scope["path"].startswith(API) and scope["path"] not in OPEN

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _security(is_page):
                headers.setdefault(name, value)
            if not scope["path"].startswith("/_nicegui"):
                headers["Cache-Control"] = "no-store"
        await send(message)

    return sending


def _security(is_page: bool) -> Iterable[tuple[str, str]]:
    return (
        ("Content-Security-Policy", PAGE_CSP if is_page else STRICT_CSP),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
    )


def _host(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""
