"""A served route, one bundle to release, and the ways in which a controller dies in the middle."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from release_fakes import PLAN, World, base_bundle, lora_bundle, project, site_of

from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.clients.ledger.ledger import Ledger
from delivery.release.state import Decision
from tasks.release.outcome import ReleaseOutcome
from tasks.release.rollback import rollback
from tasks.release.run import run_release, watch_live
from tasks.release.site import Site, own_name
from tasks.release.start import bootstrap


class Scene:
    """A served route and one bundle to release."""

    def __init__(self, home: Path, ledger: type[Ledger] = Ledger, url: str = "", busy_timeout_s: float = 0.05):
        self.home = home
        self.world = World(home / "world")
        self.ledger = ledger(url or f"sqlite:///{home}/ledger.sqlite", busy_timeout_s=busy_timeout_s)
        self.site = site_of(self.world, home, self.ledger)
        self.base, self.new = base_bundle(), self.built(1)
        self.plan = PLAN
        self.said: list[str] = []
        self.decisions: list[Decision] = []
        bootstrap(self.site, "tutor", self.base)

    def built(self, seed: int) -> Bundle:
        """A bundle that the eval gate let through."""
        bundle = lora_bundle(self.home, seed)
        self.ledger.add_build(bundle, GateDecision(passed=True, findings=()), self.world.clock())
        return bundle

    def release(self, bundle: Bundle | None = None, site: Site | None = None) -> ReleaseOutcome:
        return run_release(
            project(self.plan),
            bundle or self.new,
            site or self.site,
            on_progress=lambda done, total, text: self.said.append(text),
            on_decision=self.decisions.append,
        )

    def breaks(self, bundle: Bundle, after_s: float) -> None:
        """The bundle's answers fail from so many seconds from now on."""
        at = self.world.clock() + after_s
        self.world.change("breaks", bad_variant=bundle.variant_name)
        self.world.goes_bad = lambda world: bool(world["now"] >= at)

    def serves(self) -> set[str]:
        return set(self.world.table.routes["tutor"].variants)


def when(world: World, moment: Callable[[], bool], then: Callable[[], None]) -> None:
    """Does something once, the first time that a moment is seen while time passes."""
    done = []
    before = world.on_effect

    def on_effect(effect: str) -> None:
        before(effect)
        if not done and moment():
            done.append(1)
            then()

    world.on_effect = on_effect


class KilledError(BaseException):
    """Ends a controller in the middle, as a signal would."""


def killed_while(scene: Scene, moment: Callable[[], bool], bundle: Bundle | None = None) -> None:
    def die() -> None:
        raise KilledError

    when(scene.world, moment, die)
    with pytest.raises(KilledError):
        scene.release(bundle, site=replace(scene.site, owner="killed"))
    scene.world.on_effect = lambda effect: None
    scene.ledger.release_lease("local", "killed", 0)


def in_canary_of(scene: Scene) -> Callable[[], bool]:
    return lambda: scene.world.table.routes["tutor"].epoch.endswith("1-canary")


class Noticed(Ledger):
    """Tells when something is on record and nothing of it is applied yet."""

    on_record: Callable[[str], None] = staticmethod(lambda effect: None)

    def record(self, *arguments: Any, **more: Any) -> int:
        number = super().record(*arguments, **more)
        self.on_record("record")
        return number

    def add_command(self, *arguments: Any, **more: Any) -> None:
        super().add_command(*arguments, **more)
        self.on_record("record")

    def add_table(self, *arguments: Any, **more: Any) -> None:
        super().add_table(*arguments, **more)
        self.on_record("record")


def interrupt() -> None:
    raise KeyboardInterrupt


def killed_after(home: Path, effect: int, begin: Callable[[Scene], Callable[[], object]]) -> bool:
    """A child process kills itself right after the n-th effect of what `begin` returns; whether it came so far."""
    pid = os.fork()
    if pid == 0:
        try:
            scene = Scene(home, Noticed)
            scene.site = replace(scene.site, owner=own_name())
            act, seen = begin(scene), 0

            def count(text: str) -> None:
                nonlocal seen
                seen += text in ("record", "put", "load", "unload")
                if seen >= effect:
                    os.kill(os.getpid(), signal.SIGKILL)

            scene.world.on_effect, Noticed.on_record = count, staticmethod(count)
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child must not return into pytest
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def good(scene: Scene) -> Callable[[], object]:
    return scene.release


def bad(scene: Scene) -> Callable[[], object]:
    scene.breaks(scene.new, 4)
    return scene.release


def taken_back_by_hand(scene: Scene) -> Callable[[], object]:
    assert scene.release().outcome == "live"
    return lambda: rollback(scene.site, "tutor", by="ann", reason="complaints")


def taken_back_in_the_middle(scene: Scene) -> Callable[[], object]:
    """Of a release whose own controller was killed in the canary."""
    when(scene.world, in_canary_of(scene), interrupt)
    with pytest.raises(KeyboardInterrupt):
        scene.release()
    scene.world.on_effect = lambda effect: None
    return lambda: rollback(scene.site, "tutor", by="ann", reason="complaints")


def watched_until_it_broke(scene: Scene) -> Callable[[], object]:
    assert scene.release().outcome == "live"
    scene.breaks(scene.new, 4)
    return lambda: watch_live(scene.site, "tutor", 60, holdback_bp=500)
