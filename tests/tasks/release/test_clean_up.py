"""`slipway gc` on a real state folder with a real ledger."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from release_fakes import PLAN, base_bundle, lora_bundle
from release_states import served

from configs.canonical import short
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.retention import Retention
from delivery.build.bundle import Bundle
from delivery.clients.bundles.images import list_bundles, unpack_adapter, write_bundle
from delivery.clients.ledger.ledger import Ledger
from delivery.release.decide import new_state
from delivery.release.state import Commit, Decision, Quarantine
from tasks.release.clean_up import clean, place_of
from tasks.release.site import open_ledger

POLICY = Retention(keep_bundles=1, keep_days=7)
NOW = 2_000_000_000.0
DAY_S = 86_400.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def bundles(home: Path) -> list[Bundle]:
    """Five with adapters and the base, the first the oldest."""
    made = [lora_bundle(home, seed) for seed in range(5)]
    write_bundle(base_bundle(), None, home)
    for bundle in made:
        unpack_adapter(bundle, home)
    for days, bundle in zip((50, 40, 30, 20, 10, 60), [*made, base_bundle()], strict=True):
        age(home / "bundles" / short(bundle.digest), days)
        if bundle.adapter is not None:
            age(home / "adapters" / short(bundle.adapter.digest), days)
    return made


def age(place: Path, days: float) -> None:
    for path in [*sorted(place.rglob("*")), place]:
        os.utime(path, (NOW - days * DAY_S,) * 2)


def release(ledger: Ledger, bundle: Bundle, stable: Bundle, name: str, *, live: bool, base: Bundle) -> None:
    ledger.set_base("local", "tutor", served(base), base, "me", NOW)
    ledger.acquire("local", "me", 30, NOW)
    state = new_state(name, "local", "tutor", served(bundle), served(stable), NOW)
    ledger.begin(state, PLAN, bundle, "me", 30, NOW)
    if live:
        over = state.model_copy(update={"phase": "live", "committed": True})
        actions = (Commit(live=state.candidate, previous=state.stable),)
        ledger.record(Decision(state=over, actions=actions, verdict="pass", reason="ok"), "me", 30, NOW)


def names(home: Path) -> set[str]:
    return {short(bundle.digest) for bundle in list_bundles(home)}


def run(home: Path, **more: bool):
    return clean(Environment(), home, POLICY, NOW, **({"dry_run": False} | more))


def test_without_a_ledger_the_newest_of_the_route_stay(home, bundles):
    found = run(home)
    assert names(home) == {short(bundles[4].digest)}
    assert {path.name for path in (home / "adapters").iterdir()} == {short(bundles[4].adapter.digest)}
    assert not (home / "environments").exists()  # looking made no ledger
    assert len(found.removed) == 9


def test_live_its_rollback_target_and_the_base_stay_with_their_adapters(home, bundles):
    ledger = open_ledger(Environment(), home)
    release(ledger, bundles[0], base_bundle(), "r0", live=True, base=base_bundle())
    release(ledger, bundles[1], bundles[0], "r1", live=True, base=base_bundle())
    found = run(home)
    stay = (bundles[0], bundles[1], bundles[4])
    assert names(home) == {short(b.digest) for b in (bundles[0], bundles[1], bundles[4], base_bundle())}
    assert {path.name for path in (home / "adapters").iterdir()} == {short(b.adapter.digest) for b in stay}
    kept = found.cleanup.kept["bundle"]
    assert kept[short(bundles[1].digest)] == "live of tutor in local"
    assert kept[short(bundles[0].digest)] == "what a rollback of tutor in local goes back to"


def test_what_a_release_under_way_needs_stays(home, bundles):
    release(open_ledger(Environment(), home), bundles[2], bundles[1], "r", live=False, base=base_bundle())
    run(home)
    assert names(home) == {short(b.digest) for b in (bundles[1], bundles[2], bundles[4], base_bundle())}


def test_a_quarantined_bundle_stays_until_it_is_lifted(home, bundles):
    ledger = open_ledger(Environment(), home)
    release(ledger, bundles[0], base_bundle(), "r0", live=False, base=base_bundle())
    over = ledger.state("r0").model_copy(update={"phase": "rolled_back"})
    actions = (Quarantine(bundle=bundles[0].digest, reason="errors"),)
    ledger.record(Decision(state=over, actions=actions, verdict="fail", reason="errors"), "me", 30, NOW)
    run(home)
    assert short(bundles[0].digest) in names(home)
    ledger.lift_quarantine(bundles[0].digest, "ann", "not its fault", NOW)
    run(home)
    assert short(bundles[0].digest) not in names(home)


def test_a_dry_run_removes_nothing_and_says_the_same(home, bundles):
    before = names(home)
    said = run(home, dry_run=True)
    assert (names(home), said.removed) == (before, ())
    assert run(home).cleanup == said.cleanup


def test_what_is_needed_by_the_other_environments_of_the_state_folder_stays(home, bundles):
    ledger = Ledger(f"sqlite:///{home}/environments/other/ledger.sqlite")
    ledger.set_base("other", "tutor", served(bundles[0]), bundles[0], "me", NOW)
    run(home)
    assert short(bundles[0].digest) in names(home)


def test_with_an_environment_whose_ledger_is_elsewhere_nothing_is_removed(home, bundles):
    folder = home / "environments" / "far"
    folder.mkdir(parents=True)
    (folder / "way-back-tutor.json").write_text("{}")
    before = names(home)
    with pytest.raises(SlipwayError, match="not every ledger can be asked") as caught:
        run(home)
    assert str(folder) in str(caught.value)
    assert names(home) == before


def test_a_release_that_begins_meanwhile_keeps_its_bundle(home, bundles):
    def begin(done: int, total: int, text: str) -> None:
        if done == 1:
            release(open_ledger(Environment(), home), bundles[2], base_bundle(), "r", live=False, base=base_bundle())

    clean(Environment(), home, POLICY, NOW, dry_run=False, on_progress=begin)
    assert short(bundles[2].digest) in names(home)


def test_a_damaged_bundle_is_left_to_people(home, bundles):
    index = home / "bundles" / short(bundles[0].digest) / "index.json"
    index.chmod(0o644)
    index.write_text("{}")
    age(index.parent, 50)
    found = run(home)
    assert index.exists()
    assert str(index) in str(found.left_alone[0])


def test_a_training_that_runs_is_left_alone(home):
    folder = home / "trainings" / "abc"
    folder.mkdir(parents=True)
    age(folder, 50)
    with (folder / "lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        age(folder, 50)
        run(home)
        assert folder.is_dir()
    run(home)
    assert not folder.exists()


def test_old_eval_results_go_and_their_logs_stay(home):
    folder = home / "evals"
    folder.mkdir(parents=True)
    for name in ("aa.json", "lm-eval.log"):
        (folder / name).write_text("{}")
    age(folder, 50)
    run(home)
    assert [path.name for path in folder.iterdir()] == ["lm-eval.log"]


@pytest.mark.live
def test_a_kill_in_the_middle_of_a_removal_leaves_no_half_bundle(home, bundles):
    """The child is killed when it unlinks its first file; the next run sweeps what it left."""
    code = (
        "import os, sys; from pathlib import Path; from tasks.release.clean_up import *;"
        "sys.addaudithook(lambda event, args: event == 'os.remove' and os.kill(os.getpid(), 9));"
        f"remove_whole(place_of(Path({str(home)!r}), Ref(kind='bundle', name={short(bundles[0].digest)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL
    assert not place_of_bundle(home, bundles[0]).exists()
    assert list((home / "bundles").glob(".building-*"))  # the rest of it, which is no bundle
    assert short(bundles[0].digest) not in names(home)
    run(home)
    assert not list((home / "bundles").glob(".building-*"))


def place_of_bundle(home: Path, bundle: Bundle) -> Path:
    from delivery.release.retention import Ref

    return place_of(home, Ref(kind="bundle", name=short(bundle.digest)))
