"""Keeps an environment's vLLM and gateway running: `python -m tasks.supervisor PROJECT_FOLDER HOME`, until ended.

A restarted vLLM has forgotten its adapters, a gateway that lost its file its table. During a release the controller
sees to both; outside one this process does. It also gives stable the traffic that a controller, killed at the beginning
of a rollback, had decided to give it.
"""

import signal
import sys
import time
from pathlib import Path
from types import FrameType

from configs.errors import SlipwayError
from configs.project import Project, load_project
from delivery.clients.ledger import LeaseHeldError
from delivery.progress import silent
from tasks import serving
from tasks.environment import serve_live
from tasks.model import prepare_model
from tasks.rollback import is_left_behind
from tasks.site import open_site_of

CHECK_EVERY_S = 2.0
HEAL_EVERY_S = 5.0


def supervise(project: Project, home: Path) -> None:
    """Looks after the environment for ever; what it does and sees goes to standard output."""
    base = prepare_model(project.model, home, silent)
    watcher = serving.keep_alive(
        project.environment,
        project.model.name,
        base,
        home,
        max_context_tokens=project.model.max_context_tokens,
    )
    to_heal, healed_at, said = False, float("-inf"), ""
    while True:
        now = time.monotonic()
        for event in watcher.check(now):
            _say(f"{event.kind}: {event.text}")
            to_heal = to_heal or event.kind == "back"
        if now - healed_at >= HEAL_EVERY_S:
            healed_at = now
            trouble = _heal(project, base, home, to_heal)
            to_heal = bool(trouble)
            if trouble != said:
                _say(trouble or "the live bundle is served again")
                said = trouble
        time.sleep(CHECK_EVERY_S)


def _heal(project: Project, base: Path, home: Path, to_heal: bool) -> str:
    """Serves the live bundle again if it has to be, or if a killed controller left a rollback; what went wrong."""
    try:
        with open_site_of(project, home) as site:
            if to_heal or is_left_behind(site, project.route):
                serve_live(site, project, base, silent)
    except LeaseHeldError:
        return ""  # a controller is at work: loading again what is missing is its first concern
    except SlipwayError as error:
        return str(error)
    return ""


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%S%z"), text, flush=True)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def main(folder: str, home: str) -> None:
    """Runs until SIGTERM."""
    signal.signal(signal.SIGTERM, _leave)
    supervise(load_project(Path(folder)), Path(home))


if __name__ == "__main__":
    main(*sys.argv[1:])
