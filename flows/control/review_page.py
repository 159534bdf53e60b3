"""The page Review: one item after the other, by keyboard where somebody likes that. It knows NiceGUI."""

import asyncio
from collections.abc import Callable
from html import escape
from typing import Any

from fastapi import Request
from nicegui import ui
from starlette.types import Scope

from configs.control_room import may
from configs.errors import SlipwayError
from delivery.clients.people import Person
from delivery.review.items import Item
from flows.control.guard import Door
from flows.control.pages import frame
from flows.control.reviewing import Decision, Reviews, item_html, overview_html, said_of
from flows.control.room import Room

KEYS: dict[str, Decision] = {"a": "approve", "r": "reject", "w": "rewrite", "o": "take the other"}
HELP = "Keys, outside of a field: N next item, A approve, R reject, W save the rewrite, O take the other answer."


def review_page(room: Room, door: Door) -> Callable[..., Any]:
    """Builds the page for one browser."""

    async def page(request: Request, route: str = "") -> None:
        routes = [project.route for project in room.projects]
        chosen = route if route in routes else routes[0]
        frame("Review", request.state.person, "/review")
        with ui.element("div").classes("page").props("id=content tabindex=-1"):
            ui.html("<h1>Review</h1>", sanitize=False)
            if len(routes) > 1:
                others = "".join(
                    f'<li><a href="/review?route={escape(name)}">{escape(name)}</a></li>' for name in routes
                )
                ui.html(f'<nav aria-label="Routes"><ul class="key">{others}</ul></nav>', sanitize=False)
            desk = ReviewDesk(chosen, room, door, request.scope)
        await desk.look()

    return page


class ReviewDesk:
    """One person at one route's queue. Who they are is asked anew with each deed."""

    def __init__(self, route: str, room: Room, door: Door, scope: Scope):
        self.route, self.room, self.door, self.scope = route, room, door, scope
        self.reviews = Reviews(room)
        self.item: Item | None = None
        self.busy = False
        person: Person = scope["state"]["person"]
        with ui.element("section").classes("card").props(f'aria-label="The queue of {escape(route)}"'):
            self.overview = ui.html("", sanitize=False)
            self.said = ui.html("", sanitize=False).props("role=status aria-live=polite")
            if not person.name or not may(person.roles, "review"):
                ui.html('<p class="soft">The role reviewer may take items from here.</p>', sanitize=False)
                return
            with ui.element("div").classes("acts"):
                self._button("Next item", "act", self.next)
        with ui.element("section").classes("card").props('aria-label="The item"') as self.place:
            self.shown = ui.html("", sanitize=False)
            with ui.element("div").classes("form"):
                self.answer = ui.textarea("What should have been answered").props("outlined autogrow").classes("w-full")
                self.label = ui.input("Label (may be empty)").props("outlined maxlength=100").classes("w-full")
                self.reason = ui.input("Reason (kept for the next item)").props("outlined maxlength=2000")
                self.reason.classes("w-full")
            with ui.element("div").classes("acts").props('role=group aria-label="Decide"'):
                self._button("Approve", "act", lambda: self.decide("approve"))
                self._button("Reject", "danger", lambda: self.decide("reject"))
                self._button("Save the rewrite", "", lambda: self.decide("rewrite"))
                self.other = self._button("Take the other answer", "", lambda: self.decide("take the other"))
                self._button("Give it back", "", self.give_back)
            ui.html(f'<p class="soft small">{HELP}</p>', sanitize=False)
        self.place.set_visibility(False)
        ui.keyboard(self._key)

    async def look(self) -> None:
        """Shows the queue as it is now."""
        found = await asyncio.to_thread(self.reviews.overview, self.route)
        self.overview.content = overview_html(found)

    async def next(self) -> None:
        """Takes what this person does next."""
        await self._do(self._take)

    async def decide(self, what: Decision) -> None:
        """Decides on the item that is shown, and takes the next one."""
        item = self.item
        if item is None:
            return
        given = (self.reason.value or "", self.answer.value or "", self.label.value or "")

        def act(who: Person, now: float) -> str:
            reason, answer, label = given
            decided = self.reviews.decide(who, self.route, item.id, what, reason, now, answer, label)
            said = said_of(decided, self.room.project(self.route).dataset.review.reviewers)
            self.item = None
            return f"{said} {self._take(who, now)}".strip()

        await self._do(act)

    async def give_back(self) -> None:
        """Lets others have the item."""
        item = self.item
        if item is None:
            return

        def act(who: Person, now: float) -> str:
            self.reviews.give_back(who, self.route, item.id, now)
            self.item = None
            return f"{item.id} waits for others."

        await self._do(act)

    def _take(self, who: Person, now: float) -> str:
        self.item = self.reviews.take(who, self.route, now)
        return "" if self.item is not None else "Nothing waits for you."

    async def _do(self, act: Callable[[Person, float], str]) -> None:
        """One deed at a time: a key that is pressed twice decides once."""
        if self.busy:
            return
        person = self.door.who(self.scope)
        if person is None:
            ui.navigate.to("/sign-in")
            return
        self.busy, before = True, self.item
        try:
            self._tell(await asyncio.to_thread(act, person, self.door.clock()))
        except SlipwayError as error:
            self._tell(str(error), is_bad=True)
        finally:
            self.busy = False
        if self.item is not before:
            self._show()
        await self.look()

    def _show(self) -> None:
        item = self.item
        self.place.set_visibility(item is not None)
        if item is not None:
            self.shown.content = item_html(item)
            self.answer.value, self.label.value = item.answer or "", item.label
            self.other.set_visibility(item.asked is not None and item.asked.other is not None)

    async def _key(self, event: Any) -> None:
        if not event.action.keydown or event.action.repeat or event.modifiers.ctrl or event.modifiers.alt:
            return
        key = str(event.key).lower()
        if key == "n":
            await self.next()
        elif key in KEYS:
            await self.decide(KEYS[key])

    def _button(self, text: str, kind: str, do: Callable[[], Any]) -> Any:
        return ui.html(text, tag="button", sanitize=False).props("type=button").classes(kind).on("click", do)

    def _tell(self, text: str, *, is_bad: bool = False) -> None:
        kind = "says bad" if is_bad else "says"
        self.said.content = f'<p class="{kind}">{escape(text)}</p>' if text else ""
