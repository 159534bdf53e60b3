"""One controller an environment, whichever ledger it is."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from release_fakes import site_of
from release_scene import Scene, in_canary_of, when

from delivery.clients.ledger.ledger import LeaseHeldError, Ledger
from tasks.release.rollback import rollback
from tasks.release.site import is_dead, own_name


def test_a_second_controller_is_refused_with_the_name_of_the_first(scene: Scene) -> None:
    scene.ledger.acquire("local", "ann@elsewhere:1:2:3", 30, scene.world.clock())
    with pytest.raises(LeaseHeldError, match="ann@elsewhere"):
        scene.release()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_of_two_controller_processes_one_releases_and_the_other_is_refused(
    home: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("new_postgres")() if kind == "postgres" else f"sqlite:///{home}/ledger.sqlite"
    scene = Scene(home, url=url)
    scene.ledger.close()  # a connection must not be shared with a forked child
    children = []
    for number in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                mine = Ledger(url, busy_timeout_s=5)
                site = replace(site_of(scene.world, home, mine), owner=own_name())
                site.take_lease()
                (home / f"has-{number}").touch()
                while len(list(home.glob("has-*")) + list(home.glob("refused-*"))) < 2:
                    time.sleep(0.01)
                os._exit(0)
            except LeaseHeldError:
                (home / f"refused-{number}").touch()
                os._exit(3)
            except BaseException:  # noqa: BLE001 - a forked child must not return into pytest
                os._exit(1)
        children.append(pid)
    statuses = sorted(os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in children)
    assert statuses == [0, 3]


def test_a_controller_that_was_stopped_and_wakes_behind_another_one_does_nothing_any_more(scene: Scene) -> None:
    def another_takes_over() -> None:
        scene.world.change("asleep", now=scene.world.clock() + 40)
        other = site_of(scene.world, scene.home, scene.ledger, owner="bob@elsewhere:1:2:3")
        assert scene.release(site=other).outcome == "live"

    when(scene.world, in_canary_of(scene), another_takes_over)
    with pytest.raises(LeaseHeldError, match="nobody does"):  # the other one has finished and gone
        scene.release(site=replace(scene.site, owner="ann@elsewhere:1:2:3"))
    assert scene.ledger.release_that_made_live("local", "tutor", scene.new.digest) is not None
    assert scene.serves() == {scene.new.variant_name}


def test_a_release_goes_live_and_back_on_postgres(home: Path, new_postgres: Callable[[], str]) -> None:
    scene = Scene(home, url=new_postgres(), busy_timeout_s=2)
    assert scene.release().outcome == "live"
    assert rollback(scene.site, "tutor", by="ann", reason="a try").outcome == "rolled_back"
    assert scene.serves() == {scene.base.variant_name}
    assert scene.ledger.quarantined(scene.new.digest)


def test_an_owner_is_dead_only_when_its_process_has_ended_here() -> None:
    mine = own_name()
    assert not is_dead(mine)
    host, pid, started, rest = mine.rsplit(":", 3)
    assert is_dead(f"{host}:{pid}:{int(started) - 1000}:{rest}")
    assert is_dead(f"{host}:999999999:{started}:{rest}")
    assert not is_dead(f"me@another-host:999999999:{started}:{rest}")
    assert not is_dead("somebody")
