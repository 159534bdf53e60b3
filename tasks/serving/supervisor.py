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
from delivery.clients.ledger.ledger import LeaseHeldError
from delivery.clients.processes.interruption import leaving_tidily
from delivery.progress import silent
from tasks.release.left_behind import finish, left_behind
from tasks.release.site import open_site_of
from tasks.serving.environment import serve_live
from tasks.serving.target import ModelToServe
from tasks.serving.targets import target_of
from tasks.training.model import prepare_model

CHECK_EVERY_S = 2.0
HEAL_EVERY_S = 5.0


def supervise(project: Project, home: Path) -> None:
    """Looks after the environment for ever; what it does and sees goes to standard output."""
    base = prepare_model(project.model, home, silent)
    target = target_of(project.environment, home)
    watcher = target.watch(ModelToServe(project.model.name, base, project.model.max_context_tokens))
    finisher = Finisher(project, home)
    to_heal, healed_at, said = True, float("-inf"), ""  # true: nobody saw what was lost before this process looked
    while True:
        now = time.monotonic()
        for event in watcher.check(now):
            _say(f"{event.kind}: {event.text}")
            to_heal = to_heal or event.kind == "back"
        if now - healed_at >= HEAL_EVERY_S:
            healed_at = now
            finisher.look()
            trouble = _heal(project, base, home) if to_heal else ""
            to_heal = bool(trouble)
            if trouble != said:
                _say(trouble or "the live bundle is served again")
                said = trouble
        time.sleep(CHECK_EVERY_S)


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
