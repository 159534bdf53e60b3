"""The pages in the browser: what `now` renders, put in place as it changes, and the buttons of whoever may act.

Beside it `dialogs`, `past_pages` and `review_page` know NiceGUI, and no other module does.
"""

from collections.abc import Callable
from html import escape

from fastapi import Request
from nicegui import ui

from delivery.clients.people import Person
from flows.control.acts import Acts
from flows.control.dialogs import Deeds
from flows.control.guard import Door
from flows.control.now import clock
from flows.control.room import Room, RouteLook

BLOCKS = ("head", "alerts", "stages", "checks")
PLACES = (("/", "Now"), ("/review", "Review"), ("/history", "History"))
TICK_S = 0.25  # how soon an open page shows what the room has found


def frame(title: str, person: Person, current: str) -> None:
    """The top of every page."""
    ui.page_title(f"{title} - Slipway")
    ui.add_head_html('<link rel="stylesheet" href="/looks.css"><meta name="color-scheme" content="light dark">')
    links = "".join(
        f'<a href="{path}"{" aria-current=page" if path == current else ""}>{name}</a>' for path, name in PLACES
    )
    roles = f" ({', '.join(sorted(person.roles))})" if person.roles else ""
    who = (
        f'<form method="post" action="/sign-out"><span class="small">{escape(person.name)}{escape(roles)}</span>'
        '<button type="submit">Sign out</button></form>'
        if person.name
        else '<a href="/sign-in">Sign in</a>'
    )
    with ui.header().classes("plain"):
        ui.html(
            f'<a class="skip" href="#content">Skip to the content</a><div class="top"><strong>Slipway</strong>'
            f'<nav aria-label="Pages">{links}</nav>{who}</div>',
            sanitize=False,
        )


def now_page(room: Room, acts: Acts, door: Door) -> Callable[[Request], None]:
    """Builds the page Now for one browser."""

    def page(request: Request) -> None:
        person = request.state.person
        frame("Now", person, "/")
        room.wanted()
        parts = []
        with ui.element("div").classes("page").props("id=content tabindex=-1"):
            ui.html("<h1>Now</h1>", sanitize=False)
            when = ui.html("", sanitize=False)
            for project in room.projects:
                with ui.element("section").classes("card").props(f'aria-label="Route {escape(project.route)}"'):
                    parts.append(RoutePart(project.route, room, Deeds(project.route, room, acts, door, request.scope)))

        def tick() -> None:
            if door.who(request.scope, is_use=False) is None:
                ui.navigate.to("/sign-in")
                return
            room.wanted()
            fresh = [part.update() for part in parts]
            at = max((look.found.at for look in fresh if look and look.found), default=None)
            if at is not None:
                when.content = f'<p class="soft small">as of {clock(at)}</p>'

        tick()
        ui.timer(TICK_S, tick)

    return page


class RoutePart:
    """One route on the page; each of its blocks is sent again only when it changed."""

    def __init__(self, route: str, room: Room, deeds: Deeds):
        self.route, self.room, self.deeds = route, room, deeds
        self.blocks = {}
        for name in BLOCKS:
            live = ' role="status" aria-live="polite"' if name == "alerts" else ""
            self.blocks[name] = ui.html("", sanitize=False).props(live.strip())
            if name == "alerts":
                deeds.approval()
        deeds.buttons()

    def update(self) -> RouteLook | None:
        """Shows the room's newest look."""
        look = self.room.looks.get(self.route)
        if look is None:
            return None
        for name, block in self.blocks.items():
            if block.content != look.blocks[name]:
                block.content = look.blocks[name]
        self.deeds.update(look)
        return look
