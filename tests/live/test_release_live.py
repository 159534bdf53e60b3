"""A whole release on real parts: Prefect's server and worker, vLLM, the gateway - and kill -9 in the middle of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from live_world import LiveProject, eventually, kill_group, make_project

from delivery.clients.bundles.images import read_bundle
from delivery.clients.processes import local as processes
from delivery.clients.processes.ports import free_ports
from delivery.clients.vllm import VllmClient
from demo import stage as demo_stage
from demo.stage import UsersSeen
from tasks.serving import local as serving

pytestmark = pytest.mark.live

RELEASE_S = 600


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server with a work pool to which `prefect deploy --all` has deployed every flow."""
    folder = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            patch.setenv(name, "")  # restored afterwards: the server's context sets them
        with demo_stage.prefect_server(folder, lambda done, total, text: None) as url:
            prefect("work-pool", "create", "slipway", "--type", "process")
            prefect("--no-prompt", "deploy", "--all")
            yield f"{url}/api"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process worker of the pool, in a group of its own with the flows that it runs."""
    started = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "slipway"],
        stdout=(tmp_path_factory.mktemp("worker") / "worker.log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        kill_group(started)


@pytest.fixture(scope="module")
def live(
    live_home: Path, base_model: Path, tmp_path_factory: pytest.TempPathFactory, prefect_api: str
) -> Iterator[LiveProject]:
    """A project whose environment is up: the base model with its long prompt is served."""
    folder = tmp_path_factory.mktemp("release")
    home = folder / "home"
    home.mkdir()
    shutil.copytree(live_home / "models", home / "models", symlinks=True)
    vllm, gateway, admin = free_ports(3)
    made = make_project(folder / "tutor", home, (vllm, gateway, admin))
    made.env = {"PREFECT_API_URL": prefect_api}
    made.slipway("up")
    yield made
    made.slipway("down")
    left = [p for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or ())]
    assert not left, f"processes outlive `slipway down`: {left}"


@contextmanager
def users(live: LiveProject, name: str) -> Iterator[UsersSeen]:
    """Traffic all the while."""
    with demo_stage.traffic(live.project, live.home, name, rate=4.0, seed=7) as seen:
        yield seen


def prefect(*words: str) -> str:
    """Prefect's own command line."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *words], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"prefect {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def start_run(api: str, deployment: str, parameters: dict[str, object]) -> str:
    """Starts a deployment as the Prefect UI does; the run's id."""
    found = httpx.get(f"{api}/deployments/name/{deployment}").raise_for_status().json()
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    answers: list[httpx.Response] = []

    def is_taken() -> bool:
        answers.append(httpx.post(f"{api}/deployments/{found['id']}/create_flow_run", json=body, timeout=120))
        return (
            answers[-1].status_code != 503
        )  # Prefect's SQLite is locked for a moment: ask again, as its own client does

    eventually(is_taken, 300, f"Prefect takes a run of {deployment}")
    return str(answers[-1].raise_for_status().json()["id"])


def state_of(api: str, run: str) -> dict[str, object]:
    """A flow run's state."""
    state: dict[str, object] = httpx.get(f"{api}/flow_runs/{run}").raise_for_status().json()["state"]
    return state


def has_ended(api: str, run: str) -> bool:
    """Whether a flow run has come to any end."""
    return state_of(api, run)["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def test_every_flow_is_deployed_with_described_parameters_and_refresh_has_a_weekly_schedule(prefect_api: str) -> None:
    deployments = httpx.post(f"{prefect_api}/deployments/filter", json={}).raise_for_status().json()
    flows = {d["entrypoint"].rsplit(".", 1)[-1].replace("_", "-"): d for d in deployments}
    assert set(flows) == {"approve", "build", "lift-quarantine", "release", "refresh", "rollback", "watch"}
    for name, deployment in flows.items():
        for parameter, schema in deployment["parameter_openapi_schema"]["properties"].items():
            assert schema.get("description"), f"{name}: {parameter} has no description"
    assert [s["schedule"]["cron"] for s in flows["refresh"]["schedules"]] == ["0 3 * * 1"]
    eventually(lambda: scheduled(prefect_api) != [], 300, "Prefect schedules the next refreshes")


def scheduled(api: str) -> list[str]:
    """When the runs are due that Prefect has scheduled by itself."""
    runs = httpx.post(f"{api}/flow_runs/filter", json={}).raise_for_status().json()
    return [run["expected_start_time"] for run in runs if run["auto_scheduled"]]


def test_the_ui_in_a_browser_is_told_where_its_server_is(prefect_api: str) -> None:
    settings = httpx.get(f"{prefect_api.removesuffix('/api')}/ui-settings").raise_for_status().json()
    assert settings["api_url"] == prefect_api


@pytest.mark.usefixtures("worker")
def test_a_refresh_run_by_the_worker_takes_an_adapter_live_without_a_failed_request(
    live: LiveProject, prefect_api: str
) -> None:
    parameters = {"project": str(live.folder), "home": str(live.home), "by": "tester"}
    run = start_run(prefect_api, "refresh/slipway", parameters)
    eventually(lambda: has_ended(prefect_api, run) or live.is_releasing(), RELEASE_S, "the build comes to its release")
    with users(live, "refresh") as seen:
        eventually(lambda: has_ended(prefect_api, run), RELEASE_S, "the release comes to its end")
    assert state_of(prefect_api, run)["type"] == "COMPLETED", state_of(prefect_api, run)
    status = live.status()
    assert status["live"] != status["previous"]
    assert list(status["shares"].values()) == [10_000]
    assert next(iter(status["shares"])).startswith("lora-")
    assert seen.requests > 20
    assert seen.failures == 0, seen.errors
    kinds = {a["type"] for a in httpx.post(f"{prefect_api}/artifacts/filter", json={}).raise_for_status().json()}
    assert {"table", "markdown", "progress"} <= kinds


def test_an_unchanged_build_trains_nothing_again_and_comes_to_the_same_bundle(live: LiveProject) -> None:
    out = live.slipway("build").stdout
    assert live.status()["live"] in out
    assert "may be released" in out
    assert "| base | production | base_adapter_prompt | candidate |" in out
    trainings = list((live.home / "trainings").iterdir())
    assert len(trainings) == 1


def build_with_limit(live: LiveProject, name: str, max_tokens: int) -> tuple[LiveProject, str]:
    """The same adapter under another limit for answers is another bundle; its digest."""
    prompts = json.loads(live.project.prompts.model_dump_json())
    prompts["sampling"]["max_tokens"] = max_tokens
    other = live.variant(name, prompts=prompts)
    found = re.search(r"bundle (sha256:[0-9a-f]{64}): may be released", other.slipway("build").stdout)
    assert found
    return other, found[1]


@pytest.fixture(scope="module")
def next_bundle(live: LiveProject) -> tuple[LiveProject, str]:
    """Another candidate."""
    return build_with_limit(live, "next", 40)


def test_users_are_served_by_stable_when_the_controller_is_killed_and_the_release_goes_on_where_it_was(
    live: LiveProject, next_bundle: tuple[LiveProject, str]
) -> None:
    other, bundle = next_bundle
    stable = live.route().stable
    with users(live, "killed-controller") as seen:
        controller = other.start("release", bundle)
        eventually(lambda: _share(live), RELEASE_S, "the candidate gets a share")
        kill_group(controller)
        assert after_the_lease(live, other) == {stable}
        assert live.status()["unfinished"]["phase"] == "stage"
        resumed = other.slipway("release", bundle, timeout_s=RELEASE_S)
    assert "live" in resumed.stdout
    assert seen.failures == 0, seen.errors
    assert live.status()["live"] == bundle


def test_slipway_rollback_gives_users_the_base_model_again_within_seconds_and_can_be_repeated(
    live: LiveProject, next_bundle: tuple[LiveProject, str]
) -> None:
    _, bundle = next_bundle
    token = serving.admin_token(live.project.environment, live.home)
    with users(live, "rollback") as seen:
        took_s = demo_stage.rollback_by_command(live.project, live.home, token)
        again = live.slipway("rollback", "--reason", "a test goes on", check=False)
        unclear = live.slipway("rollback", "--to", "base", "--reason", "a test goes on", check=False)
        named = re.search(r"--to base (\S+)", unclear.stderr)
        assert named is not None, unclear.stdout + unclear.stderr
        words = ("rollback", named[1], "--to", "base", "--reason", "a test goes on")
        to_base = live.slipway(*words, check=False)
    assert took_s < 60, "a loaded machine, which first starts a command, gets some seconds, not minutes"
    assert (again.returncode, unclear.returncode, to_base.returncode) == (0, 2, 0), again.stderr + to_base.stderr
    assert seen.failures == 0, seen.errors
    refused = live.slipway("release", bundle, check=False)
    assert refused.returncode == 1
    assert "quarantined" in refused.stdout


def test_a_candidate_whose_upstream_goes_wrong_in_its_canary_is_taken_back_by_itself_and_no_user_notices(
    live: LiveProject, next_bundle: tuple[LiveProject, str]
) -> None:
    other, bundle = next_bundle
    other.slipway("lift-quarantine", bundle, "--reason", "it was taken back by a test")
    stable = live.route().stable
    token = serving.admin_token(live.project.environment, live.home)
    model = read_bundle(live.home, bundle).served_name
    with (
        demo_stage.failing_upstream(live.project, live.home, token, model) as upstream,
        users(live, "failing") as seen,
    ):
        done = other.slipway("release", bundle, "--candidate-upstream", upstream, check=False, timeout_s=RELEASE_S)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "rolled_back: " in done.stdout
    assert "first bad answer to 100 % stable" in done.stdout
    assert list(live.route().variants) == [stable]
    assert seen.requests > 20
    assert seen.failures == 0, seen.errors
    again = other.slipway("release", bundle, check=False)
    assert again.returncode == 1
    assert "quarantined" in again.stdout


def test_a_gateway_and_then_vllm_killed_in_the_middle_of_a_canary_come_back_and_the_release_comes_to_an_end(
    live: LiveProject,
) -> None:
    third, bundle = build_with_limit(live, "third", 36)
    stable = live.route().stable
    with users(live, "killed-servers") as seen:
        release = third.start("release", bundle)
        eventually(lambda: _share(live), RELEASE_S, "the candidate gets a share")
        before = live.route()
        killed_at = time.time()
        kill_inside(live, "gateway", "delivery.gateway")
        eventually(lambda: _answers(live), 300, "the supervisor starts the gateway again")
        assert live.route().variants == before.variants
        kill_inside(live, "vllm", "vllm.entrypoints")
        url = serving.addresses(live.project.environment).vllm_url
        eventually(lambda: serving.vllm_health(url) != "ok", 120, "vLLM's death shows")
        eventually(lambda: serving.vllm_health(url) == "ok", 600, "the supervisor starts vLLM again")
        eventually(lambda: _has_all(live, url), 300, "the controller loads again what users are sent to")
        vllm_back_at = time.time()
        assert release.wait(timeout=RELEASE_S) in (0, 1), (live.home / "release.log").read_text()[-2000:]
        settled_at = time.time()
        time.sleep(5)
    asked = [json.loads(line) for line in (live.home / "traffic-killed-servers.jsonl").read_text().splitlines()]
    assert [a for a in asked if a["at"] > settled_at], "users ask all the time"
    late = [a for a in asked if not a["ok"] and a["at"] > vllm_back_at + 2]
    assert not late, "with everything back, nobody sees a failure"
    early = [a for a in asked if not a["ok"] and a["at"] + a["duration_s"] < killed_at]
    assert not early, "nobody saw a failure before"
    assert seen.requests > seen.failures
    status = live.status()
    assert status["unfinished"] is None
    assert list(status["shares"].values()) == [10_000]
    live_now = live.route().stable
    assert (live_now == stable) == (release.returncode == 1), "rolled back to stable, or live"


def test_a_release_whose_worker_is_killed_with_all_its_flows_goes_on_from_the_command_line(
    live: LiveProject, prefect_api: str, worker: subprocess.Popen[bytes]
) -> None:
    fourth, bundle = build_with_limit(live, "fourth", 34)
    stable = live.route().stable
    with users(live, "killed-worker") as seen:
        parameters = {"bundle": bundle, "project": str(fourth.folder), "home": str(live.home), "by": "tester"}
        start_run(prefect_api, "release/slipway", parameters)
        eventually(lambda: _share(live), RELEASE_S, "the candidate gets a share")
        process = psutil.Process(worker.pid)
        for victim in [process, *process.children(recursive=True)]:
            victim.kill()
        assert after_the_lease(live, fourth) == {stable}
        assert live.status()["unfinished"]["phase"] == "stage"
        resumed = fourth.slipway("release", bundle, timeout_s=RELEASE_S)
    assert "live" in resumed.stdout
    assert seen.failures == 0, seen.errors
    assert live.status()["live"] == bundle


def after_the_lease(live: LiveProject, released: LiveProject) -> set[str]:
    """Who answers the users, once the lease of a silent controller has run out."""
    time.sleep(released.project.rollout.lease_s + 0.5)  # the lease is measured by the gateway's own clock
    cut = time.time()  # the gateway runs here: its clock is ours. Answers begun before may still be on their way
    time.sleep(5)
    after = [record for record in live.records() if record.started_at > cut]
    assert after, "users ask all the time"
    return {record.variant for record in after}


def kill_inside(live: LiveProject, name: str, words: str) -> None:
    """kill -9 for what a guard guards, not for the guard."""
    process = processes.find(name, live.home / "environments" / "live")
    assert process is not None
    victims = [p for p in psutil.Process(process.pid).children(recursive=True) if words in " ".join(p.cmdline())]
    assert victims, name
    os.kill(victims[0].pid, signal.SIGKILL)


def _share(live: LiveProject) -> bool:
    candidate = live.route().candidate
    return candidate is not None and candidate.share_bp > 0


def _has_all(live: LiveProject, vllm_url: str) -> bool:
    """Whether vLLM has every model of the route: a fresh one has no adapters, and whoever asks for one is refused."""
    with VllmClient(vllm_url) as client:
        return {variant.model for variant in live.route().variants.values()} <= set(client.models())


def _answers(live: LiveProject) -> bool:
    with live.gateway() as client:
        return client.ready() and client.table() is not None
