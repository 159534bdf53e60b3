"""What all open pages share: one look at each route every half second, while somebody looks."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from configs.errors import SlipwayError
from configs.project import Project
from flows.control import now as shown
from tasks.release.present import RoutePresent, RouteWatch, watch_route
from tasks.release.site import Site

EVERY_S = 0.5
UNWATCHED_S = 5.0  # without a page that asks, nothing is looked at


@dataclass(frozen=True)
class RouteLook:
    """The newest look at one route, rendered once for everybody. `problem`: why there is none."""

    found: RoutePresent | None
    blocks: dict[str, str]
    problem: str = ""
    at: float = 0.0  # by the monotonic clock


@dataclass
class Room:
    """The projects that the control room shows. `open_watch`: how a route is looked at."""

    projects: tuple[Project, ...]
    home: Path
    open_watch: Callable[[Project, Path], RouteWatch] = watch_route
    looks: dict[str, RouteLook] = field(default_factory=dict)  # by route
    _watches: dict[str, RouteWatch] = field(default_factory=dict)
    _asked_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def project(self, route: str) -> Project:
        """The project of a route. Raises SlipwayError for one that is not shown here."""
        for project in self.projects:
            if project.route == route:
                return project
        known = ", ".join(project.route for project in self.projects)
        raise SlipwayError(f"the control room has no route {route!r}", cure=f"it has {known}")

    def site(self, route: str) -> Site:
        """The route's connections, opened once."""
        if route not in self._watches:
            self._watches[route] = self.open_watch(self.project(route), self.home)
        return self._watches[route].site

    def wanted(self) -> None:
        """Somebody looks: the next looks are taken."""
        self._asked_at = time.monotonic()

    def look(self, route: str) -> RouteLook:
        """The newest look at a route, taken now unless it is quite fresh. Blocks for as long as the gateways need."""
        with self._lock:
            known = self.looks.get(route)
            if known is not None and time.monotonic() - known.at < EVERY_S / 2:
                return known
            self.looks[route] = self._look(route)
            return self.looks[route]

    def _look(self, route: str) -> RouteLook:
        try:
            self.site(route)
            found = self._watches[route].look()
            blocks = {
                "head": shown.head(found),
                "alerts": shown.alerts(found),
                "stages": shown.stages(found),
                "checks": shown.checks(found),
            }
            return RouteLook(found, blocks, at=time.monotonic())
        except SlipwayError as error:
            text = f'<h2>{escape(route)}</h2><div class="says bad"><p>{escape(str(error))}</p></div>'
            blocks = {"head": text, "alerts": "", "stages": "", "checks": ""}
            return RouteLook(None, blocks, str(error), time.monotonic())

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            began = time.monotonic()
            if began - self._asked_at < UNWATCHED_S:
                for project in self.projects:
                    await asyncio.to_thread(self.look, project.route)
            await asyncio.sleep(max(0.05, EVERY_S - (time.monotonic() - began)))

    def close(self) -> None:
        """Closes every connection."""
        for watch in self._watches.values():
            watch.site.ledger.close()
            for client in watch.site.gateways.values():
                with suppress(AttributeError):
                    client.close()
