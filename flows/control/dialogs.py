"""The buttons of one route, and what each of them asks before it acts: two clicks, with the consequences in words."""

import asyncio
import time
from collections.abc import Callable
from html import escape
from typing import Any

from nicegui import ui
from starlette.types import Scope

from configs.canonical import short
from configs.control_room import Deed, may
from configs.errors import SlipwayError
from delivery.clients.people import Person
from flows.control.acts import Acts
from flows.control.guard import Door
from flows.control.room import Room, RouteLook
from tasks.release.present import RoutePresent

EVERY_S = 2.0  # how often the logs of what was started are read


class Deeds:
    """What somebody may do on a route. Who they are is asked anew at each deed."""

    def __init__(self, route: str, room: Room, acts: Acts, door: Door, scope: Scope):
        self.route, self.room, self.acts, self.door, self.scope = route, room, acts, door, scope
        self.person: Person = scope["state"]["person"]
        self.look: RouteLook | None = None
        self.kept: dict[str, Any] = {}
        self.waits: Any = None
        self.read_at = float("-inf")

    def approval(self) -> None:
        """The place where a stage that waits is answered for."""
        with ui.element("div").classes("says warn") as self.waits:
            self.waits_text = ui.html("", sanitize=False)
            with ui.element("div").classes("acts"):
                self._button("Approve", "approve", "act", lambda: self._answer(approved=True))
                self._button("Reject", "reject", "danger", lambda: self._answer(approved=False))
        self.waits.set_visibility(False)

    def buttons(self) -> None:
        """All others."""
        with ui.element("div").classes("acts").props(f'role=group aria-label="Act on {escape(self.route)}"'):
            self._button("Roll back", "roll back", "danger", self._roll_back)
            self._button("Release", "release", "", self._release)
            self._button("Watch", "watch", "", self._watch)
            self._button("Build", "build", "", lambda: self._start("Build", "build", self.acts.build))
            self._button("Refresh", "refresh", "", lambda: self._start("Refresh", "refresh", self.acts.refresh))
            self._button("Lift a quarantine", "lift quarantine", "", self._lift)
        self.said = ui.html("", sanitize=False).props("role=status aria-live=polite")
        self.started = ui.html("", sanitize=False)

    def update(self, look: RouteLook) -> None:
        """Follows the newest look."""
        self.look = look
        found = look.found
        waiting = found is not None and found.under_way is not None and found.under_way.state.awaiting_approval
        self.waits.set_visibility(waiting)
        if waiting and found is not None and found.under_way is not None:
            state = found.under_way.state
            name = found.under_way.plan.stage_name(state.stage_index)
            text = f"<p><strong>An approval is wanted</strong> for stage {escape(name)}: {escape(state.reason)}</p>"
            if self.waits_text.content != text:
                self.waits_text.content = text
        self._show_started()
        back = self.kept.get("roll back")
        if back is not None:
            back.set_visibility(found is not None and found.takes_back.standing == "take_back")

    def _show_started(self) -> None:
        """What commands that were started here said last, for those who may start them."""
        if "build" not in self.kept or time.monotonic() - self.read_at < EVERY_S:
            return
        self.read_at, found = time.monotonic(), self.acts.started(self.route)
        parts = [
            f"<p><strong>{escape(one.name)}</strong> {'▶ runs' if one.runs else '■ has ended'}; it said last:</p>"
            f'<pre class="small soft">{escape(one.said)}</pre>'
            for one in found
        ]
        text = f"<h3>Started here</h3>{''.join(parts)}" if parts else ""
        if self.started.content != text:
            self.started.content = text

    # -- what each asks ----------------------------------------------------------------------------------------------

    def _roll_back(self) -> None:
        found = self._found()
        if found is None:
            return
        release_id, ids = (
            found.takes_back.release_id,
            self.room.site(self.route).ledger.state(found.takes_back.release_id),
        )
        text = (
            f"<p>This takes back release <code>{escape(release_id)}</code> of bundle"
            f" <code>{escape(short(ids.candidate.bundle))}</code>. All users of {escape(self.route)} get"
            f" <code>{escape(ids.stable.name)}</code> at once; the bundle is ruled out until somebody lifts that.</p>"
        )

        def fields() -> dict[str, Any]:
            return {
                "reason": _reason("Taken back from the control room"),
                "base": ui.checkbox("Serve the base model instead of what was before"),
                "kept": ui.checkbox("The bundle is not to blame: do not rule it out"),
            }

        def act(who: Person, given: dict[str, Any]) -> str:
            outcome = self.acts.roll_back(
                who,
                self.route,
                release_id,
                to_base=bool(given["base"].value),
                quarantine=not given["kept"].value,
                reason=given["reason"].value or "",
            )
            return outcome.render()

        self._ask("Roll back", text, "Roll back now", "danger act", fields, act)

    def _answer(self, *, approved: bool) -> None:
        found = self._found()
        if found is None or found.under_way is None:
            return
        state = found.under_way.state
        seen = (state.release_id, state.stage_index)
        name = found.under_way.plan.stage_name(state.stage_index)
        what = "The release goes on to its next stage." if approved else "The release is rolled back."
        text = f"<p>Stage <strong>{escape(name)}</strong> of <code>{escape(state.release_id)}</code>. {what}</p>"
        text += "".join(f"<p class='small'>{escape(one.sentence)}</p>" for one in self._results(found))

        def act(who: Person, given: dict[str, Any]) -> str:
            return self.acts.approve(who, self.route, seen, approved=approved, reason=given["reason"].value or "")

        word = "Approve" if approved else "Reject"
        kind = "act" if approved else "danger act"
        self._ask(word, text, f"{word} now", kind, lambda: {"reason": _reason()}, act)

    def _release(self) -> None:
        known = dict(self.acts.bundles(self.route))
        text = "<p>The command <code>slipway release</code> takes the bundle through the plan's stages.</p>"
        if not known:
            return self._tell("There is no bundle of this route yet: build one.", is_bad=True)

        def fields() -> dict[str, Any]:
            return {
                "bundle": _choice("Bundle", known),
                "reason": _reason(),
                "hour": ui.checkbox("Do not wait for the plan's release hours"),
            }

        def act(who: Person, given: dict[str, Any]) -> str:
            return self.acts.release(
                who,
                self.route,
                given["bundle"].value,
                at_any_hour=bool(given["hour"].value),
                reason=given["reason"].value or "",
            )

        return self._ask("Release", text, "Release", "act", fields, act)

    def _watch(self) -> None:
        text = "<p>What is live is judged for a while, and rolled back when a check fails.</p>"

        def fields() -> dict[str, Any]:
            return {
                "minutes": ui.number("Minutes", value=60, min=1, max=43_200),
                "held": ui.number("Percent of users held back", value=0, min=0, max=50),
                "reason": _reason(),
            }

        def act(who: Person, given: dict[str, Any]) -> str:
            return self.acts.watch(
                who,
                self.route,
                duration_s=60 * float(given["minutes"].value or 0),
                holdback_bp=round(100 * float(given["held"].value or 0)),
                reason=given["reason"].value or "",
            )

        self._ask("Watch", text, "Watch", "act", fields, act)

    def _start(self, word: str, what: str, do: Callable[..., str]) -> None:
        text = f"<p>The command <code>slipway {what}</code> runs on the control room's machine.</p>"

        def act(who: Person, given: dict[str, Any]) -> str:
            return do(who, self.route, reason=given["reason"].value or "")

        self._ask(word, text, word, "act", lambda: {"reason": _reason()}, act)

    def _lift(self) -> None:
        rows = self.room.site(self.route).ledger.audit.quarantined()
        known = {row["bundle"]: f"{short(row['bundle'])} - {row['reason'][:90]}" for row in rows}
        if not known:
            return self._tell("No bundle is quarantined.")
        text = "<p>The bundle may be released again. The eval gate and the stages judge it as ever.</p>"

        def act(who: Person, given: dict[str, Any]) -> str:
            return self.acts.lift_quarantine(who, self.route, given["bundle"].value, reason=given["reason"].value or "")

        fields = lambda: {"bundle": _choice("Bundle", known), "reason": _reason()}  # noqa: E731
        return self._ask("Lift a quarantine", text, "Lift it", "act", fields, act)

    # -- how ---------------------------------------------------------------------------------------------------------

    def _ask(
        self,
        title: str,
        text: str,
        yes: str,
        kind: str,
        fields: Callable[[], dict[str, Any]],
        act: Callable[[Person, dict[str, Any]], str],
    ) -> None:
        with ui.dialog().props(f'aria-label="{escape(title)}"') as dialog, ui.element("div").classes("ask"):
            ui.html(f"<h2>{escape(title)}</h2>{text}", sanitize=False)
            given = fields()
            problem = ui.html("", sanitize=False).props("role=alert")

            async def do() -> None:
                person = self.door.who(self.scope)
                if person is None:
                    ui.navigate.to("/sign-in")
                    return
                self._tell(f"{title}: under way ...")
                try:
                    self._tell(await asyncio.to_thread(act, person, given))
                    dialog.close()
                except SlipwayError as error:
                    self._tell("")
                    problem.content = f'<p class="problem">{escape(str(error))}</p>'
                except (TypeError, ValueError) as error:
                    self._tell("")
                    problem.content = f'<p class="problem">{escape(str(error))}</p>'

            with ui.element("div").classes("acts"):
                ui.html(yes, tag="button", sanitize=False).props("type=button").classes(kind).on("click", do)
                ui.html("Cancel", tag="button", sanitize=False).props("type=button").on("click", dialog.close)
        dialog.open()

    def _button(self, text: str, deed: Deed, kind: str, do: Callable[[], None]) -> None:
        if not self.person.name or not may(self.person.roles, deed):
            return
        button = ui.html(text, tag="button", sanitize=False).props("type=button").classes(kind)
        self.kept[deed] = button.on("click", do)

    def _tell(self, text: str, *, is_bad: bool = False) -> None:
        kind = "says bad" if is_bad else "says"
        self.said.content = f'<p class="{kind}" style="white-space:pre-line">{escape(text)}</p>' if text else ""

    def _found(self) -> RoutePresent | None:
        return self.look.found if self.look is not None else None

    @staticmethod
    def _results(found: RoutePresent) -> tuple[Any, ...]:
        judgement = found.under_way.judgement if found.under_way is not None else None
        return judgement.results if judgement is not None else ()


def _reason(text: str = "") -> Any:
    return ui.input("Reason", value=text).props("outlined maxlength=2000").classes("w-full")


def _choice(label: str, known: dict[str, str]) -> Any:
    return ui.select(known, label=label, value=next(iter(known))).props("outlined").classes("w-full")
