"""Brings a cluster to what a file in Git says, again and again, as Argo CD does; and people who watch it there."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import yaml
from chart_world import ChartWorld
from git_world import Origin
from helm import HelmError

from configs.project import Project
from tasks.release.run import approve
from tasks.release.site import Site


@dataclass
class Follower:
    """`synced`: the file's text that the cluster has. `seen`: by stage, what users of the cluster got in it."""

    world: ChartWorld
    origin: Origin
    file: str
    synced: str = ""
    seen: dict[int, dict[str, int]] = field(default_factory=dict)
    wrong: list[Exception] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """The cluster becomes what is committed now; the team's own values stand beside it."""
        text = self.origin.show(self.file)
        if text is None or text == self.synced:
            return
        said = yaml.safe_load(text)
        for route in said["routes"].values():
            route["policy"] = {"show_variant": True}
        self.world.sync(self.world.values | said)
        self.synced = text

    @contextmanager
    def at_work(self, project: Project, site: Site) -> Iterator[None]:
        """A release's stages are approved by somebody who has seen on the cluster what each is committed as."""
        thread = threading.Thread(target=self._work, args=(project, site))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(300)

    def users_after_s(self, variant: str) -> float:
        """Seconds until the cluster has the newest commit and every one of some users gets this variant."""
        begun = time.monotonic()
        thread = threading.Thread(target=self._or_tell)
        thread.start()
        self.world.until_all_get(variant, within_s=300)
        took_s = time.monotonic() - begun
        thread.join(300)
        return took_s

    def _work(self, project: Project, site: Site) -> None:
        while not self._stop.wait(0.2) and not self.wrong:
            self._or_tell()
            waiting = site.ledger.unfinished(site.name, project.route)
            if waiting is None or not waiting.awaiting_approval or waiting.stage_index in self.seen:
                continue
            if self.origin.show(self.file) == self.synced:
                self.seen[waiting.stage_index] = self.world.served(60)
                approve(site, project.route, approved=True, by="ann", reason="seen on the cluster")

    def _or_tell(self) -> None:
        try:
            self.look()
        except (HelmError, yaml.YAMLError) as error:
            self.wrong.append(error)
