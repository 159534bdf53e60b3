"""Signing in and out: a plain form without scripts, which works before anything of the pages is loaded."""

import asyncio
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response

from flows.control.guard import COOKIE, Door, address_of, session_of

LOOKS = Path(__file__).with_name("looks.css")
LONGEST_FORM = 4096  # bytes


def sign_in_routes(door: Door) -> APIRouter:
    """The form, what it sends, and the way out."""
    router = APIRouter(include_in_schema=False)

    @router.get("/sign-in")
    async def form(next: str = "/") -> Response:
        return _page(next)

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _page("/", "The form is too long.", 413)
        given = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        name, wanted = given.get("name", "").strip(), given.get("next", "/")
        address, now = address_of(request.scope), door.clock()
        wait_s = door.tries.wait_s(name, address, now)
        if wait_s > 0:
            text = f"Too many tries. Wait {wait_s:.0f} seconds."
            return _page(wanted, text, 429, name)
        door.tries.failed(name, address, now)  # before the slow part: tries at the same time count too
        person = await asyncio.to_thread(door.people.with_password, name, given.get("password", ""))
        if person is None:
            return _page(wanted, "Name or password is wrong.", 401, name)
        door.tries.succeeded(name, address)
        answer = RedirectResponse(_own(wanted), 303)
        secure = request.url.scheme == "https" or bool(door.settings.public_url)
        answer.set_cookie(
            COOKIE, door.sessions.begin(person.name, now), httponly=True, samesite="strict", secure=secure, path="/"
        )
        return answer

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        door.sessions.end(session_of(request.headers))
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(COOKIE, path="/")
        return answer

    @router.get("/looks.css")
    async def looks() -> Response:
        return FileResponse(LOOKS, media_type="text/css")

    @router.get("/healthz")
    async def health() -> Response:
        return PlainTextResponse("ok\n")

    return router


def _own(wanted: str) -> str:
    """A page of ours: never another site's."""
    return wanted if wanted.startswith("/") and not wanted.startswith(("//", "/\\")) else "/"


async def _body(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return None
    return body


def _page(wanted: str, problem: str = "", status: int = 200, name: str = "") -> HTMLResponse:
    said = f'<p class="problem" role="alert" id="problem">{escape(problem)}</p>' if problem else ""
    described = ' aria-describedby="problem" aria-invalid="true"' if problem else ""
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Sign in - Slipway</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="/looks.css"></head>
<body class="slipway"><main class="sign-in"><h1>Slipway</h1><p>The control room</p>{said}
<form method="post" action="/sign-in">
<input type="hidden" name="next" value="{escape(_own(wanted))}">
<label for="name">Name</label>
<input id="name" name="name" autocomplete="username" required maxlength="100" value="{escape(name)}"{described}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required maxlength="1000">
<button type="submit" class="act">Sign in</button></form></main></body></html>""",
        status,
    )
