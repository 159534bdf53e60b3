"""kill -9 after every single effect: nothing is lost, and all ends as it would have."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from release_scene import (
    Scene,
    bad,
    good,
    killed_after,
    taken_back_by_hand,
    taken_back_in_the_middle,
    watched_until_it_broke,
)

from delivery.clients.ledger.ledger import Ledger
from tasks.release.rollback import rollback
from tasks.release.run import watch_live


def written_so_far(ledger: Ledger) -> dict[str, list[str]]:
    """By table, the rows of which none may ever change or go."""
    found: dict[str, list[str]] = {}
    for line in ledger.export():
        found.setdefault(json.loads(line)["table"], []).append(line)
    return {name: found.get(name, []) for name in ("decisions", "applied", "commands", "approvals", "bundles")}


BEGINNINGS = [good, bad, taken_back_by_hand, taken_back_in_the_middle, watched_until_it_broke]


@pytest.mark.live
@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda f: f.__name__)
def test_whoever_is_killed_after_any_effect_does_no_harm_and_all_ends_as_it_would_have(
    home: Path, tmp_path_factory: pytest.TempPathFactory, begin: Callable[[Scene], Callable[[], object]]
) -> None:
    for effect in range(1, 100):
        place = tmp_path_factory.mktemp("killed")
        shutil.copy(home / "ledger.sqlite", place / "ledger.sqlite")
        was_killed = killed_after(place, effect, begin)
        scene = Scene(place)  # starts the environment again, which must not disturb the release
        before = written_so_far(scene.ledger)
        if begin is bad:
            scene.world.goes_bad = lambda world: world["now"] >= 1_000_004
        elif begin is watched_until_it_broke:
            scene.world.goes_bad = lambda world: True
        scene.world.sleep(20)  # longer than the lease, with nobody there
        state, table = scene.world.read(), scene.world.table.routes["tutor"]
        assert table.candidate is None or state["lease_until"] <= state["now"]
        if not was_killed:
            pass
        elif begin in (good, bad):
            outcome = scene.release().outcome
            # refused: it was over already
            assert outcome in (("rolled_back", "refused") if begin is bad else ("live",))
        elif begin is watched_until_it_broke:
            watched = watch_live(scene.site, "tutor", 60, holdback_bp=500)
            assert watched is None or watched.outcome == "rolled_back"  # none: it was over already
        else:
            again = rollback(scene.site, "tutor", by="ann", reason="complaints")
            assert again.outcome in ("rolled_back", "nothing_to_do")
        phases = [row["phase"] for row in scene.ledger.releases("local")]
        assert phases[-1] == ("live" if begin is good else "rolled_back")
        assert scene.serves() == {(scene.new if begin is good else scene.base).variant_name}, f"effect {effect}"
        state = scene.world.read()
        # what is live and breaks has users and nobody behind it, as long as nobody watches
        assert state["failed_users"] == 0 or begin is watched_until_it_broke
        assert state["put"] == sorted(state["put"])
        after = written_so_far(scene.ledger)
        assert all(after[name][: len(rows)] == rows for name, rows in before.items()), "the ledger lost something"
        if not was_killed:
            assert effect > 4
            return
    raise AssertionError("it never ended")
