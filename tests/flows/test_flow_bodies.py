"""The flows that people start, against a real gateway and ledger, with stubs in vLLM's and Prefect's place."""

import itertools
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from live_world import eventually
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from real_prefect import real_prefect
from stub_prefect import StubPrefect
from tiny_model import CHATML

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.project import Project, load_project
from configs.routing import Route
from delivery.build.bundle import Bundle
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.clients.processes.ports import free_ports
from delivery.release.decide import new_state
from delivery.release.routes import alone
from delivery.release.state import Commit, Decision, ReleaseState
from flows.approve import approve
from flows.lift_quarantine import lift_quarantine
from flows.refresh import refresh
from flows.reporting import result_of
from flows.rollback import rollback
from flows.watch import watch
from tasks.release.cursors import cursors
from tasks.release.outcome import ReleaseOutcome
from tasks.release.refresh import look, note_end
from tasks.release.site import Site, open_site_of, served_as
from tasks.release.start import bootstrap
from tasks.release.way_back import remember
from tasks.serving import local as serving

pytestmark = pytest.mark.live

PLAN = {
    "tick_s": 0.2,
    "lease_s": 3,
    "drain_s": 0.2,
    "stages": [
        {"kind": "canary", "share_bp": 5000, "min_requests": 5, "approval": True},
        {"kind": "full", "share_bp": 10_000, "min_requests": 5},
    ],
    "checks": [{"metric": "error_rate", "max": 0.5}],
}
TOKEN = "a-token-for-tests-of-32-characters-and-more"
NUMBERS = itertools.count(1)  # of adapters: vLLM takes a name only once


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose gateway and stub of vLLM run."""
    here = tmp_path_factory.mktemp("flows")
    vllm, port, admin = free_ports(3)
    files = {
        "project": {"route": "tutor", "extends": str(Path("configs/tutor").absolute())},
        "model": {"name": "base", "path": str(here)},
        "rollout": PLAN,
        "environment": {"vllm": {"port": vllm}, "gateway": {"port": port, "admin_port": admin}},
    }
    for name, content in files.items():
        (here / f"{name}.yaml").write_text(yaml.safe_dump(content))
    where = serving.addresses(load_project(here).environment)
    gateway = serving.gateway_command(load_project(here).environment, here, TOKEN)
    stub = ProcessCommand(name="vllm", argv=(sys.executable, "-m", "benchmarks.rollback.upstream", str(vllm)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_ADMIN_TOKEN", TOKEN)
        ready = {
            "vllm": lambda: serving.vllm_health(where.vllm_url) == "ok",
            "gateway": lambda: serving.gateway_health(where.admin_url, TOKEN) == "ok",
        }
        for command in (stub, gateway):
            processes.start(command, here, ready=ready[command.name], timeout_s=120, attached=True)
        yield here
        for name in ("gateway", "vllm"):
            processes.stop(name, here)


@dataclass
class Place:
    """A route with a release on record, as its controller left it."""

    folder: Path
    home: Path
    prefect: StubPrefect

    @property
    def project(self) -> Project:
        return load_project(self.folder)

    @property
    def wanted(self) -> dict[str, Any]:
        """Which flows and commands have in common."""
        return {"project": str(self.folder), "home": self.home}

    def route(self) -> Route:
        with open_site_of(self.project, self.home) as site:
            (gateway,) = site.gateways.values()
            table = gateway.table()
        assert table is not None
        return table.routes["tutor"]

    def released(self, **where: Any) -> ReleaseState:
        """A bundle is live, or wherever its release is; users get it."""
        base = tiny_bundle(f"a long prompt for {self.home}")
        with open_site_of(self.project, self.home) as site:
            bootstrap(site, "tutor", base, 3.0)
            state = self._begun(site, base).model_copy(update={"phase": "live", "committed": True} | where)
            actions = (Commit(live=state.candidate, previous=state.stable),) if state.committed else ()
            decision = Decision(state=state, actions=actions, verdict="pass", reason="by hand")
            site.ledger.record(decision, site.owner, 30, time.time())
            (gateway,) = site.gateways.values()
            table = gateway.table()
            assert table is not None
            route = alone(state.candidate, "salt", "released")
            routes = {"tutor": route}
            gateway.put_table(table.model_copy(update={"revision": table.revision + 1, "routes": routes}))
            site.drop_lease()
        return state

    def _begun(self, site: Site, base: Bundle) -> ReleaseState:
        made = self.home / "made"
        write_tiny_lora(made, next(NUMBERS))
        bundle = tiny_bundle("a short prompt", describe(made))
        write_bundle(bundle, made, self.home)
        stable, candidate = (served_as(one, site) for one in (base, bundle))
        site.vllm(site.upstreams[0]).load_adapter(candidate.variant.model, candidate.adapter_path or "")
        site.take_lease()
        now = time.time()
        state = new_state("the-release", site.name, "tutor", candidate, stable, now, cursors(site))
        site.ledger.begin(state, self.project.rollout, bundle, site.owner, 30, now, "ann")
        return state

    @contextmanager
    def users(self) -> Iterator[None]:
        """They ask all the while."""
        url, stop = serving.addresses(self.project.environment).gateway_url, threading.Event()
        body = {"model": "tutor", "messages": [{"role": "user", "content": "1 + 1?"}]}

        def ask() -> None:
            with httpx.Client(base_url=url, timeout=60) as http:
                while not stop.wait(0.02):
                    http.post("/v1/chat/completions", json=body)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def locked_ledger(self) -> Iterator[None]:
        """Somebody else writes into it, without an end."""
        file = self.home / "environments" / "local" / "ledger.sqlite"
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def slipway(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """The command line, which asks the same stub of Prefect."""
        own = {"PREFECT_API_URL": self.prefect.url, "PREFECT_HOME": str(self.home / "prefect")}
        place = ("--project", str(self.folder), "--home", str(self.home))
        argv = [sys.executable, "-m", "flows.cli.main", words[0], *place, *words[1:]]
        return subprocess.run(argv, env=os.environ | own, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def place(folder: Path, tmp_path: Path) -> Iterator[Place]:
    with (
        StubPrefect() as prefect,
        temporary_settings({PREFECT_API_URL: prefect.url, PREFECT_LOGGING_TO_API_ENABLED: False}),
    ):
        yield Place(folder, tmp_path, prefect)


def test_rollback_takes_the_live_bundle_back_and_shows_a_page(place: Place) -> None:
    state = place.released()
    assert place.route().stable == state.candidate.name
    done = result_of(rollback(by="ann", reason="complaints", **place.wanted, return_state=True))
    assert (done.outcome, done.serves) == ("rolled_back", state.stable.name)
    assert place.route().stable == state.stable.name
    assert place.prefect.ends == ["Completed"]
    assert "serves route tutor" in place.prefect.pages[-1]
    assert "complaints" in place.prefect.pages[-1]


def test_a_rollback_is_a_step_of_its_run_as_a_real_server_shows_it(place: Place, tmp_path: Path) -> None:
    place.released()
    given = f"project={str(place.folder)!r}, home={str(place.home)!r}"
    code = f"from flows.rollback import rollback\nrollback('ann', 'why', {given})"
    with real_prefect(tmp_path) as server:
        subprocess.run([sys.executable, "-c", code], env=server.env, capture_output=True, timeout=300, check=True)
        (run,) = server.post("/flow_runs/filter", {})
        eventually(lambda: [state for *_, state in server.tasks(run["id"])] == ["COMPLETED"], 120, "the step is shown")
        assert [name for name, *_ in server.tasks(run["id"])] == ["tutor back to what was before"]


def test_a_rollback_that_cannot_go_on_record_moves_users_and_its_run_fails(place: Place) -> None:
    state = place.released()
    with place.locked_ledger():
        done = result_of(rollback(by="ann", reason="complaints", **place.wanted, return_state=True))
    assert place.route().stable == state.stable.name
    assert done.outcome == "under_way"
    assert place.prefect.ends == ["UnderWay"]
    assert "NOT on record" in place.prefect.pages[-1]


def test_slipway_rollback_says_what_is_left_to_do_with_status_2_and_0_when_nothing_is(place: Place) -> None:
    state = place.released()
    with place.locked_ledger():
        unfinished = place.slipway("rollback", "--reason", "complaints")
    assert unfinished.returncode == 2, unfinished.stdout
    assert "NOT on record" in unfinished.stderr
    assert place.route().stable == state.stable.name
    again = place.slipway("rollback", "--reason", "complaints")
    assert again.returncode == 0, again.stderr
    assert f"rolled_back: {state.stable.name} serves route tutor after" in again.stdout


def test_slipway_rollback_moves_users_while_its_database_is_down_and_the_record_follows(
    place: Place, tmp_path: Path
) -> None:
    state = place.released()
    with open_site_of(place.project, place.home) as site:
        remember(site, "tutor")  # as its controller did
    environment = yaml.safe_load((place.folder / "environment.yaml").read_text())
    environment["ledger_url"] = f"postgresql://slipway@127.0.0.1:{free_ports(1)[0]}/slipway"
    away = tmp_path / "away"
    away.mkdir()
    (away / "project.yaml").write_text(yaml.safe_dump({"route": "tutor", "extends": str(place.folder)}))
    (away / "environment.yaml").write_text(yaml.safe_dump(environment))
    down = replace(place, folder=away)
    done = down.slipway("rollback", "--reason", "complaints", "--by", "ann")
    assert done.returncode == 2, done.stdout
    assert "the ledger cannot be reached" in done.stderr
    assert "goes on record when it is back" in done.stderr
    assert "Traceback" not in done.stderr
    assert place.route().stable == state.stable.name
    again = down.slipway("rollback", "--reason", "complaints", "--by", "bob")
    assert (again.returncode, "was taken back before" in again.stderr) == (2, True)
    back = place.slipway("rollback", "the-release", "--reason", "complaints", "--by", "bob")
    assert back.returncode == 0, back.stderr
    assert "the same again, which takes nothing else back: slipway rollback --project" in back.stdout
    assert place.route().stable == state.stable.name
    third = place.slipway("rollback", "--reason", "complaints", "--by", "carol")
    assert third.returncode == 0, third.stderr
    assert "nothing_to_do: release the-release of bundle" in third.stdout


def test_lifting_a_quarantine_is_a_flow_too(place: Place) -> None:
    state = place.released()
    result_of(rollback(by="ann", reason="complaints", **place.wanted, return_state=True))
    said = lift_quarantine(bundle=state.candidate.bundle, by="bob", reason="the network was to blame", **place.wanted)
    assert "may be released again" in said
    assert "the network was to blame" in place.prefect.pages[-1]
    with open_site_of(place.project, place.home) as site:
        assert site.ledger.quarantined(state.candidate.bundle) == ""


def test_watch_judges_what_is_live_and_leaves_it_so(place: Place) -> None:
    state = place.released()
    with place.users():
        outcome = result_of(watch(**place.wanted, duration_s=1.0, return_state=True))
    assert outcome is not None
    assert outcome.outcome == "live"
    assert place.route().stable == state.candidate.name
    assert place.prefect.ends == ["Completed"]


def test_slipway_watch_takes_back_what_breaks_with_status_1(place: Place) -> None:
    state = place.released()
    vllm = serving.addresses(place.project.environment).vllm_url
    httpx.post(f"{vllm}/fail", json={"model": state.candidate.variant.model, "share": 1.0}).raise_for_status()
    with place.users():
        done = place.slipway("watch", "--duration-s", "60")
    assert done.returncode == 1, done.stderr
    assert "rolled_back: " in done.stdout
    assert place.route().stable == state.stable.name
    assert place.prefect.ends == ["RolledBack"]


@pytest.mark.parametrize("refused", ["artifacts", "ends"])
def test_what_prefect_does_not_take_at_the_end_changes_no_commands_status(place: Place, refused: str) -> None:
    state = place.released()
    place.prefect.refuses = {refused}
    with place.users():
        done = place.slipway("watch", "--duration-s", "1")
    assert done.returncode == 0, done.stderr
    assert "live: " in done.stdout
    assert "shown in Prefect" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert place.route().stable == state.candidate.name
    vllm = serving.addresses(place.project.environment).vllm_url
    httpx.post(f"{vllm}/fail", json={"model": state.candidate.variant.model, "share": 1.0}).raise_for_status()
    with place.users():
        done = place.slipway("watch", "--duration-s", "60")
    assert done.returncode == 1, done.stderr
    assert "rolled_back: " in done.stdout


def test_a_rollback_whose_page_prefect_does_not_take_is_done(place: Place) -> None:
    state = place.released()
    place.prefect.refuses = {"artifacts"}
    done = result_of(rollback(by="ann", reason="complaints", **place.wanted, return_state=True))
    assert done.outcome == "rolled_back"
    assert place.route().stable == state.stable.name
    assert place.prefect.ends == ["Completed"]


def test_a_scheduled_refresh_without_anything_new_does_nothing_and_says_why(place: Place, folder: Path) -> None:
    state = place.released()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / "chat_template.jinja").write_text(CHATML)
    before = ReleaseOutcome(release_id="", route="tutor", bundle="b", outcome="live", reason="by hand")
    note_end(place.project, place.home, look(place.project, place.home), "schedule", time.time(), before)
    ended = refresh(accept_blind_plan=True, return_state=True, **place.wanted)
    assert (ended.name, ended.type.value) == ("NothingToDo", "COMPLETED")
    done = result_of(ended)
    assert (done.outcome, done.bundle) == ("live", state.candidate.bundle)
    assert done.reason.startswith("The refresh does nothing: since the last one nothing has changed in ")
    assert not (place.home / "datasets").exists()
    assert ended.message == done.reason
    assert place.prefect.pages[-1] == done.reason
    assert f"by schedule: {done.reason}" in place.slipway("status").stdout
    assert json.loads(place.slipway("status", "--json").stdout)["refresh"]["said"] == done.reason
    again = place.slipway("refresh", "--by", "schedule", "--accept-blind-plan")
    assert (again.returncode, again.stdout) == (0, f"live: {done.reason}\n")


def test_there_is_nothing_to_watch_before_the_first_release(place: Place) -> None:
    assert result_of(watch(**place.wanted, return_state=True)) is None
    assert place.prefect.ends == ["Completed"]


@pytest.mark.parametrize("wrong", [{"holdback_bp": 20_000}, {"holdback_bp": -1}, {"duration_s": 0.0}], ids=str)
def test_prefects_form_of_a_watch_has_the_bounds_of_the_command_line(wrong: dict[str, float]) -> None:
    with pytest.raises(Exception, match=next(iter(wrong))):
        watch.validate_parameters(wrong)


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_an_answer_to_the_stage_that_waits_is_on_record_with_who_and_why(place: Place, decision: str) -> None:
    place.released(phase="stage", committed=False, awaiting_approval=True)
    given = {"decision": decision, "by": "ann", "reason": "looked at twenty answers"}
    assert result_of(approve(**given, **place.wanted, return_state=True)) == "the-release"
    with open_site_of(place.project, place.home) as site:
        found = site.ledger.approval("the-release", 0)
    assert found is not None
    assert (found.approved, found.by, found.reason) == (decision == "approve", "ann", "looked at twenty answers")
    assert "looked at twenty answers" in place.prefect.pages[-1]
