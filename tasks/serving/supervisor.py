"""Looks after an environment's vLLM and gateways: `python -m tasks.serving.supervisor PROJECT_FOLDER HOME`.

A restarted vLLM has forgotten its adapters, a gateway that lost its file its table. During a release the controller
sees to both; outside one this process does. It also finishes a rollback whose own process was killed.
"""

import sys
import threading
import time
from pathlib import Path

from configs.errors import SlipwayError
from configs.project import Project, load_project
from delivery.clients.ledger.ledger import LeaseHeldError, Ledger
from delivery.clients.processes.interruption import leaving_tidily
from delivery.progress import silent
from delivery.release.messages import ReleaseMessage, of_incident
from tasks.notify.courier import Courier
from tasks.notify.receivers import senders
from tasks.notify.told import put_in_outbox
from tasks.release.left_behind import finish, left_behind
from tasks.release.site import open_ledger, open_site_of
from tasks.serving.environment import serve_live
from tasks.serving.keep_alive import Incident
from tasks.serving.target import ModelToServe
from tasks.serving.targets import target_of
from tasks.training.model import prepare_model

CHECK_EVERY_S = 2.0
HEAL_EVERY_S = 5.0
ALERTS = ("died", "gave_up", "away")


def supervise(project: Project, home: Path) -> None:
    """Looks after the environment for ever; what it does and sees goes to standard output."""
    base = prepare_model(project.model, home, silent)
    target = target_of(project.environment, home)
    watcher = target.watch(ModelToServe(project.model.name, base, project.model.max_context_tokens))
    finisher, told = Finisher(project, home), Told(project, home)
    to_heal, healed_at, said = True, float("-inf"), ""  # true: nobody saw what was lost before this process looked
    while True:
        now = time.monotonic()
        for event in watcher.check(now):
            _say(f"{event.kind}: {event.text}")
            told.of(event)
            to_heal = to_heal or event.kind == "back"
        if now - healed_at >= HEAL_EVERY_S:
            healed_at = now
            finisher.look()
            told.look()
            trouble = _heal(project, base, home) if to_heal else ""
            to_heal = bool(trouble)
            if trouble != said:
                _say(trouble or "the live bundle is served again")
                said = trouble
        time.sleep(CHECK_EVERY_S)


class Told:
    """Puts what happened to vLLM and gateways into the ledger's outbox, and delivers all that lies there."""

    def __init__(self, project: Project, home: Path):
        self._project = project
        self._home = home
        self._ledger: Ledger | None = None
        self._courier: Courier | None = None
        self._waiting: list[ReleaseMessage] = []  # for a ledger that cannot be opened

    def of(self, event: Incident) -> None:
        """What people have to know of."""
        if event.kind in ALERTS and self._project.environment.notifications:
            place = (self._project.environment.name, self._project.route)
            self._waiting.append(of_incident(*place, event.name, event.kind, event.text, time.time()))
            self.look()

    def look(self) -> None:
        """Begins to deliver as soon as the ledger can be opened; nothing waits for a receiver."""
        environment = self._project.environment
        if not environment.notifications:
            return
        try:
            if self._ledger is None:
                self._ledger = open_ledger(environment, self._home)
                self._courier = Courier(environment.name, self._ledger, senders(environment.notifications), _say)
                self._courier.start()
        except SlipwayError as error:
            _say(f"nobody can be told yet: {error.what}")
            return
        while self._waiting:
            put_in_outbox(environment, self._ledger, self._waiting.pop(0), lambda done, total, text: _say(text))

    def stop(self) -> None:
        """Returns when everything was tried once, or after a few seconds."""
        if self._courier is not None:
            self._courier.stop()


class Finisher:
    """Finishes what a killed rollback left behind, in a thread: it may have to wait for what is restarted meanwhile."""

    def __init__(self, project: Project, home: Path):
        self._project = project
        self._home = home
        self._thread: threading.Thread | None = None
        self._said = ""

    def look(self) -> None:
        """Begins to finish what is left behind, unless that is under way already; returns at once."""
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            with open_site_of(self._project, self._home) as site:
                if left_behind(site, self._project.route) is None:
                    return
        except SlipwayError as error:
            self._tell(str(error))
            return
        self._thread = threading.Thread(target=self._finish, daemon=True)  # it must not outlive this process
        self._thread.start()

    def _finish(self) -> None:
        try:
            with open_site_of(self._project, self._home) as site:
                done = finish(site, self._project.route)
        except SlipwayError as error:
            self._tell(str(error))
            return
        if done:
            self._tell(f"the rollback of release {done}, which was left behind, is complete")

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            _say(text)


def _heal(project: Project, base: Path, home: Path) -> str:
    """Serves the live bundle again; what went wrong."""
    try:
        with open_site_of(project, home) as site:
            serve_live(site, project, base, silent)
    except LeaseHeldError:
        return ""  # a controller is at work: loading again what is missing is its first concern
    except SlipwayError as error:
        return str(error)
    return ""


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%S%z"), text, flush=True)


def main(folder: str, home: str) -> None:
    """Runs until SIGTERM."""
    with leaving_tidily():
        supervise(load_project(Path(folder)), Path(home))


if __name__ == "__main__":
    main(*sys.argv[1:])
