"""The pages of the past in the browser: read once when they are opened, without anything that moves."""

import asyncio
from collections.abc import Callable
from html import escape
from typing import TypeVar

from fastapi import Request
from nicegui import ui

from configs.errors import SlipwayError
from flows.control import history as shown
from flows.control.pages import frame
from flows.control.room import Room
from tasks.release.history import (
    behind_request,
    bundle_of,
    decision_again,
    differences,
    live_periods,
    story_of,
)
from tasks.release.site import Site

T = TypeVar("T")
RELEASES = 200  # the newest; the ledger keeps all
EVENTS = 100


def past_pages(room: Room) -> None:
    """Declares them."""

    @ui.page("/history", title="History")
    async def history(request: Request, route: str = "") -> None:
        await _show(request, "History", lambda: _history(room, route))

    @ui.page("/history/release/{release_id}", title="Release")
    async def release(request: Request, release_id: str) -> None:
        def content() -> str:
            return shown.story(_first(room, lambda site: story_of(site.ledger, release_id)))

        await _show(request, f"Release {release_id}", content)

    @ui.page("/history/decision/{release_id}/{number}", title="Decision")
    async def decision(request: Request, release_id: str, number: int) -> None:
        def content() -> str:
            return shown.decision(_first(room, lambda site: decision_again(site.ledger, release_id, number)))

        await _show(request, "A decision, computed again", content)

    @ui.page("/bundles", title="Bundles")
    async def bundles(request: Request, first: str = "", second: str = "") -> None:
        await _show(request, "Bundles", lambda: _bundles(room, first.strip(), second.strip()))

    @ui.page("/request", title="A request")
    async def one_request(request: Request, id: str = "") -> None:
        await _show(request, "Behind a request", lambda: _behind(room, id.strip()))


async def _show(request: Request, title: str, content: Callable[[], str]) -> None:
    frame(title, request.state.person, "/history")
    try:
        text = await asyncio.to_thread(content)
    except SlipwayError as error:
        text = f'<p class="problem">{escape(str(error))}</p>'
    with ui.element("div").classes("page").props("id=content tabindex=-1"):
        ui.html(f'<h1>{escape(title)}</h1><div class="card">{text}</div>', sanitize=False)


def _history(room: Room, route: str) -> str:
    routes = [project.route for project in room.projects]
    chosen = route if route in routes else routes[0]
    site = room.site(chosen)
    others = "".join(f'<li><a href="/history?route={escape(name)}">{escape(name)}</a></li>' for name in routes)
    links = f'<nav aria-label="Routes"><ul class="key">{others}</ul></nav>' if len(routes) > 1 else ""
    return (
        links
        + shown.search_form("/request", {"id": ("A request's id", "")}, "Who answered it?")
        + shown.periods(chosen, live_periods(site.ledger, site.name, chosen))
        + shown.releases(chosen, site.ledger.releases(site.name, chosen, RELEASES))
        + shown.events(site.ledger.audit.events(site.name, EVENTS))
    )


def _bundles(room: Room, first: str, second: str) -> str:
    form = shown.search_form(
        "/bundles", {"first": ("One bundle", first), "second": ("and another", second)}, "What differs?"
    )
    if not first:
        return form
    one = _first(room, lambda site: bundle_of(site.ledger, room.home, first))
    if not second:
        return form + shown.one_bundle(one)
    other = _first(room, lambda site: bundle_of(site.ledger, room.home, second))
    return form + shown.compared(one, other, differences(one, other))


def _behind(room: Room, request_id: str) -> str:
    form = shown.search_form("/request", {"id": ("A request's id", request_id)}, "Who answered it?")
    if not request_id:
        return form
    found = [one for project in room.projects for one in behind_request(room.site(project.route), request_id)]
    return form + shown.behind(found, request_id)


def _first(room: Room, ask: Callable[[Site], T]) -> T:
    """From the first environment that knows it; else its problem."""
    problem = SlipwayError("the control room shows no route")
    for project in room.projects:
        try:
            return ask(room.site(project.route))
        except SlipwayError as error:
            problem = error
    raise problem
