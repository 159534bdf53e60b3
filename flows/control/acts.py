"""What people do in the control room. Each deed is checked against the person's roles, goes the way that the command
line goes, and stands in the ledger under the person's name.

What lasts - a release, a watch, a build, a refresh - is the command itself, in a process that outlives the page.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from configs.canonical import short
from configs.control_room import Deed, may
from configs.errors import SlipwayError
from delivery.clients.bundles.images import list_bundles, read_bundle
from delivery.clients.people import Person
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from flows.control.room import Room
from tasks.release.quarantine import lift_quarantine
from tasks.release.rollback import rollback_in
from tasks.release.rollback_outcome import RollbackOutcome
from tasks.release.run import approve

LONGEST_REASON = 2000
LINES = 12  # of what a started command said last


class NotAllowedError(SlipwayError):
    """Somebody's roles do not allow it."""


Launch = Callable[[ProcessCommand, Path], None]


def _launch(command: ProcessCommand, folder: Path) -> None:
    processes.launch(command, folder, attached=False)


@dataclass(frozen=True)
class StartedRun:
    """A command that was started from here, and what it said last."""

    name: str
    runs: bool
    said: str


@dataclass
class Acts:
    """`launch` starts a command that outlives this process; `take_back` works without a ledger too."""

    room: Room
    launch: Launch = field(default=_launch)
    take_back: Callable[..., RollbackOutcome] = rollback_in

    def approve(self, who: Person, route: str, seen: tuple[str, int], *, approved: bool, reason: str) -> str:
        """Answers for the stage that this person saw waiting (release, stage's index); what was recorded, in words."""
        self._require(who, "approve" if approved else "reject", reason)
        site = self.room.site(route)
        waiting = site.ledger.unfinished(site.name, route)
        if waiting is None or not waiting.awaiting_approval or (waiting.release_id, waiting.stage_index) != seen:
            raise SlipwayError("the stage that you saw does not wait any more", cure="look again at what waits now")
        release_id = approve(site, route, approved=approved, by=who.name, reason=reason)
        return f"{'approved' if approved else 'rejected'}: {release_id}"

    def roll_back(
        self, who: Person, route: str, release_id: str, *, to_base: bool, quarantine: bool, reason: str
    ) -> RollbackOutcome:
        """Takes back the release that this person saw; nothing else, however often it is asked for."""
        self._require(who, "roll back", reason)
        return self.take_back(
            self.room.project(route),
            self.room.home,
            by=who.name,
            reason=reason,
            release=release_id,
            to="base" if to_base else "previous",
            quarantine=quarantine,
        )

    def lift_quarantine(self, who: Person, route: str, bundle: str, *, reason: str) -> str:
        """Lets a bundle be released again; the sentence that says so."""
        self._require(who, "lift quarantine", reason)
        site = self.room.site(route)
        return lift_quarantine(site.ledger, self.room.home, bundle, by=who.name, reason=reason, now=site.clock())

    def release(self, who: Person, route: str, bundle: str, *, at_any_hour: bool, reason: str) -> str:
        """Starts `slipway release`, which refuses what it always refuses."""
        self._require(who, "release", reason)
        digest = read_bundle(self.room.home, bundle).digest
        words = ["release", digest, "--by", who.name, *(["--at-any-hour"] if at_any_hour else [])]
        return self._start(who, route, f"release-{short(digest)}", words, f"a release of bundle {digest}: {reason}")

    def watch(self, who: Person, route: str, *, duration_s: float, holdback_bp: int, reason: str) -> str:
        """Starts `slipway watch`."""
        self._require(who, "watch", reason)
        words = ["watch", "--duration-s", f"{duration_s:g}", "--holdback-bp", str(holdback_bp)]
        text = f"a watch of {duration_s:g} s with {holdback_bp} basis points held back: {reason}"
        return self._start(who, route, "watch", words, text)

    def build(self, who: Person, route: str, *, reason: str) -> str:
        """Starts `slipway build`."""
        self._require(who, "build", reason)
        return self._start(who, route, "build", ["build"], f"a build: {reason}")

    def refresh(self, who: Person, route: str, *, reason: str) -> str:
        """Starts `slipway refresh`: a build, and the release of what its gate lets through."""
        self._require(who, "refresh", reason)
        return self._start(who, route, "refresh", ["refresh", "--by", who.name], f"a refresh: {reason}")

    # -- what was started --------------------------------------------------------------------------------------------

    def started(self, route: str) -> list[StartedRun]:
        """Commands that were started here, the newest first, with their last lines."""
        folder = self._folder(route)
        logs = sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime, reverse=True)
        return [
            StartedRun(log.stem, processes.find(log.stem, folder) is not None, _last_lines(log)) for log in logs[:5]
        ]

    def bundles(self, route: str) -> list[tuple[str, str]]:
        """Bundles of the route, newest first: digest, and what it is made of in a few words."""
        found = []
        for bundle in list_bundles(self.room.home):
            if bundle.route == route:
                scores = ", ".join(f"{n} {s.score:.2f}" for n, s in bundle.evals.items() if s.score is not None)
                what = "base model" if bundle.adapter is None else f"adapter {short(bundle.adapter.digest)}"
                found.append((bundle.digest, f"{short(bundle.digest)} - {what}{', ' if scores else ''}{scores}"))
        return found

    def _start(self, who: Person, route: str, name: str, words: list[str], text: str) -> str:
        project, folder = self.room.project(route), self._folder(route)
        if processes.find(name, folder) is not None:
            raise SlipwayError(
                f"{name} runs already for route {route}", where=str(folder), cure="wait until it has ended"
            )
        site = self.room.site(route)
        site.ledger.audit.asked(site.name, who.name, f"route {route}: {text}", site.clock())
        place = ["--project", str(project.folder.absolute()), "--home", str(self.room.home.absolute())]
        argv = (sys.executable, "-m", "flows.cli.main", words[0], *place, *words[1:])
        self.launch(ProcessCommand(name=name, argv=argv), folder)
        return f"started: {name}"

    def _folder(self, route: str) -> Path:
        project = self.room.project(route)
        return self.room.home / "environments" / project.environment.name / "control-room" / route

    @staticmethod
    def _require(who: Person, deed: Deed, reason: str) -> None:
        if not may(who.roles, deed) or not who.name:
            roles = ", ".join(sorted(who.roles)) or "no role"
            raise NotAllowedError(f"{who.name or 'nobody who is signed in'} may not {deed}: {roles}")
        if not reason.strip() or len(reason) > LONGEST_REASON:
            raise SlipwayError("a reason is needed", cure=f"say why, in at most {LONGEST_REASON} characters")


def _last_lines(log: Path) -> str:
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8192))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-LINES:])
