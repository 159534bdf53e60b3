"""A control room over a served route whose release is driven in a thread, in real time, on a real ledger."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn
from release_fakes import PLAN, World, project, site_of
from release_scene import Scene

from configs.checks import Check
from configs.control_room import ControlRoom
from configs.project import Project
from configs.rollout import RolloutPlan, Stage
from delivery.clients.people import People, people_file
from delivery.clients.processes.local import ProcessCommand
from flows.control.acts import Acts
from flows.control.guard import Door
from flows.control.room import Room
from flows.control.server import application, listening
from tasks.release.outcome import ReleaseOutcome
from tasks.release.present import RouteWatch
from tasks.release.rollback import rollback
from tasks.serving.target import PartState

PASSWORD = "correct horse battery"
PEOPLE = {
    "vera": ("viewer",),
    "rita": ("reviewer",),
    "olga": ("operator",),
    "anna": ("approver",),
    "omar": ("operator", "approver"),
}
SLOW_PLAN = RolloutPlan(
    **{
        **dict(PLAN),
        "stages": (
            Stage(kind="shadow", mirror_bp=5000, min_requests=15),
            Stage(kind="canary", share_bp=2000, min_requests=60, min_duration_s=30, approval=True),
            Stage(kind="full", share_bp=9000, min_requests=15),
            Stage(kind="watch", min_requests=15),
        ),
        "checks": (Check(metric="error_rate", max=0.2), Check(metric="latency_p95_s", max=2.0)),
    }
)


@dataclass
class ControlScene:
    """`real_s`: how long a second of the scene's own time lasts."""

    home: Path
    plan: RolloutPlan = SLOW_PLAN
    real_s: float = 0.05
    launched: list[ProcessCommand] = field(default_factory=list)

    def __post_init__(self) -> None:
        World(self.home / "world").change("begins", now=time.time())
        self.scene = Scene(self.home, busy_timeout_s=5.0)
        self.scene.plan = self.plan
        self.project: Project = project(self.plan)
        self.people = People(people_file(self.home), cost=16)
        self.room = Room((self.project,), self.home, self._watch)
        self.acts = Acts(self.room, self._launch, self._take_back)
        self.door = Door(ControlRoom(port=0), self.people, time.time)
        self._thread = ThreadPoolExecutor(1)
        self._going: Future[ReleaseOutcome] | None = None
        self._stands_at: Callable[[], bool] = lambda: False
        self._goes_on = threading.Event()
        self._goes_on.set()

    def _watch(self, project: Project, home: Path) -> RouteWatch:
        vllm = PartState("vllm", "http://vllm", running=True, healthy=True, pid=None, log="")
        site = site_of(self.scene.world, home, self.scene.ledger, "room")
        return RouteWatch(replace(site, sleep=self._sleep), project, lambda: (vllm,))

    def _launch(self, command: ProcessCommand, folder: Path) -> None:
        self.launched.append(command)

    def _take_back(self, project: Project, home: Path, **asked: Any) -> Any:
        return rollback(self.room.site(project.route), project.route, **asked)

    def _sleep(self, seconds: float) -> None:
        time.sleep(seconds * self.real_s)

    def _live(self, seconds: float) -> None:
        if self._stands_at():
            self._stands_at = lambda: False
            self._goes_on.clear()
        self._goes_on.wait()
        self._sleep(seconds)
        self.scene.world.sleep(seconds)

    def add_people(self) -> None:
        for name, roles in PEOPLE.items():
            self.people.put(name, roles, PASSWORD)  # type: ignore[arg-type]

    def release(self) -> None:
        """The release goes on in a thread of its own, until it has ended."""
        site = replace(self.scene.site, sleep=self._live)
        self._going = self._thread.submit(self.scene.release, site=site)

    def release_until(self, moment: Callable[[], bool]) -> None:
        """The same; from this moment on no time passes for it until `go_on`, so that a page goes on showing it."""
        self._stands_at = moment
        self.release()
        self.wait_for(lambda: not self._goes_on.is_set())

    def ended(self) -> ReleaseOutcome:
        """How the release ended, once it has; what it raises in its thread is raised here."""
        assert self._going is not None
        return self._going.result(120)

    def go_on(self) -> None:
        """Time passes again for the release."""
        self._goes_on.set()

    def wait_for(self, moment: Any, timeout_s: float = 120.0) -> Any:
        """The first true answer."""
        until = time.monotonic() + timeout_s
        while not (found := moment()):
            assert time.monotonic() < until, "not in time"
            time.sleep(0.02)
        return found

    def state(self) -> Any:
        return self.scene.ledger.unfinished("local", "tutor")

    def waits(self) -> bool:
        state = self.state()
        return bool(state is not None and state.awaiting_approval)

    @contextmanager
    def served(self) -> Iterator[str]:
        """The room's own server in a thread; its URL. One in a process."""
        listener = listening(self.door.settings)
        app = application(self.room, self.acts, self.door)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="wsproto", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            self.wait_for(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            self.go_on()
            server.should_exit = True
            thread.join(timeout=60)
