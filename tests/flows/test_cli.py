"""The command line's manners: help, exit statuses, errors without tracebacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from benchmarks.replay.made_up import Behaviour, made_up
from flows.cli.main import quiet_surroundings

pytestmark = pytest.mark.live


def slipway(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the real command line."""
    argv = [sys.executable, "-m", "flows.cli.main", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, cwd=folder, check=False)


def test_help_lists_every_command_without_importing_prefect_or_torch() -> None:
    code = "import sys, flows.cli.main; assert not {'prefect', 'torch', 'transformers'} & set(sys.modules), sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    done = slipway("--help")
    assert done.returncode == 0
    for command in ("up", "down", "status", "build", "release", "refresh", "rollback", "approve", "watch"):
        assert f" {command} " in done.stdout
    for command in ("plan", "explain", "replay", "lift-quarantine"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "corp.example, ::1"}, "corp.example,::1,127.0.0.1,localhost"),
        ({"NO_PROXY": "a", "no_proxy": "b"}, "b,127.0.0.1,localhost,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_what_runs_on_this_machine_is_asked_without_a_proxy(found: dict[str, str], left: str) -> None:
    quiet_surroundings(found)
    assert (found["no_proxy"], found["NO_PROXY"]) == (left, left)


def test_rollback_imports_neither_prefect_nor_torch() -> None:
    code = (
        "import sys, tasks.serving.environment, tasks.release.rollback; "
        "assert not {'prefect', 'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_project_that_is_not_there_is_status_2_with_a_cure_and_no_traceback() -> None:
    done = slipway("build", "--project", "configs/nowhere")
    assert done.returncode == 2
    assert "there is no folder configs/nowhere" in done.stderr
    assert "tutor" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_problems_of_all_files_are_listed_at_once(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text(f"extends: {Path('configs/tutor').absolute()}\n")
    (tmp_path / "training.yaml").write_text("epoch: 2\nlearning_rate: fast\n")
    (tmp_path / "model.yaml").write_text("name: x\n")
    done = slipway("build", "--project", str(tmp_path))
    assert done.returncode == 2
    for text in ("did you mean 'epochs'?", "learning_rate", "exactly one of package, path, hub"):
        assert text in done.stderr, done.stderr


@pytest.mark.parametrize(
    "words",
    [("rollback",), ("approve",), ("lift-quarantine", "3f9c"), ("release",), ("nonsense",), ("build", "--nonsense")],
)
def test_a_call_that_says_too_little_or_too_much_is_status_2(words: tuple[str, ...]) -> None:
    done = slipway(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_bundle_that_is_not_there_is_status_2_and_says_what_is(tmp_path: Path) -> None:
    done = slipway("release", "feedbeef", "--home", str(tmp_path))
    assert done.returncode == 2
    assert "feedbeef" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_and_rollback_of_an_environment_that_never_ran_say_so(tmp_path: Path) -> None:
    status = slipway("status", "--home", str(tmp_path))
    assert status.returncode == 0
    assert "is down" in status.stdout
    rollback = slipway("rollback", "--reason", "none", "--home", str(tmp_path))
    assert rollback.returncode == 2
    assert "route tutor" in rollback.stderr


@pytest.mark.parametrize(("errors", "outcome", "status"), [(0.0, "live", 0), (0.9, "rolled_back", 1)])
def test_a_plan_is_replayed_over_a_log_and_its_exit_status_is_its_verdict(
    tmp_path: Path, errors: float, outcome: str, status: int
) -> None:
    log, plan = tmp_path / "log.parquet", "configs/tutor/rollout.yaml"
    candidate = Behaviour(errors, errors)
    parquet.write_table(made_up(6000, requests_per_s=20, candidate_share=0.5, candidate=candidate), log)
    done = slipway("replay", "--log", str(log), "--plan", plan)
    assert done.returncode == status, done.stderr
    assert "new against old, 6000 rows\n  left out: shadow" in done.stdout
    same = json.loads(slipway("replay", "--log", str(log), "--plan", plan, "--json").stdout)
    assert same["outcome"] == outcome
    assert same["reason"] in done.stdout


def test_a_log_that_is_not_there_is_status_2_and_said_so(tmp_path: Path) -> None:
    wrong = slipway("replay", "--log", str(tmp_path / "nothing.parquet"), "--plan", "configs/tutor/rollout.yaml")
    assert (wrong.returncode, "does not exist" in wrong.stderr, "Traceback" in wrong.stderr) == (2, True, False)


def test_a_plan_is_looked_at_with_the_traffic_at_hand() -> None:
    seen = slipway("plan", "--project", "configs/tutor", "--requests-per-s", "2", "--json")
    assert seen.returncode == 0
    stages = json.loads(seen.stdout)["stages"]
    assert [stage["stage"] for stage in stages] == ["0-shadow", "1-canary", "2-canary", "3-full", "4-watch"]
    assert all(stage["false_rollback"] <= 0.05 for stage in stages)


def test_a_blind_plan_is_status_1_and_says_where() -> None:
    blind = slipway("plan", "--project", "configs/tutor", "--requests-per-s", "0.001")
    assert blind.returncode == 1
    assert "blind: in" in blind.stdout
    assert "no candidate, however bad, is rolled back in time" in blind.stdout


def test_a_decision_that_was_never_made_cannot_be_explained(tmp_path: Path) -> None:
    done = slipway("explain", "--project", "configs/tutor", "--home", str(tmp_path))
    assert done.returncode == 2
    assert "route tutor has no release" in done.stderr
    assert slipway("explain", "--last", "--tick", "3", "--home", str(tmp_path)).returncode == 2
