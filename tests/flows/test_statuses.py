"""A database, a vLLM or a judge that cannot be used: one message with the cure, before anything was begun."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from answering import answering
from release_fakes import lora_bundle
from stub_project import stub_project

from configs.environment import VllmConfig
from configs.errors import SlipwayError
from configs.project import load_project
from delivery.clients.processes.ports import free_ports
from flows.cli.main import app, for_users
from tasks.evals.model_server import require_place
from tasks.evals.require import require_judges_answer
from tasks.preflight import before_release, warnings_before_release

pytestmark = pytest.mark.live

WORDS = {
    "up": [],
    "status": [],
    "build": [],
    "release": ["BUNDLE"],
    "refresh": [],
    "watch": [],
    "rollback": ["--reason", "complaints"],
    "approve": ["--reason", "fine"],
    "lift-quarantine": ["BUNDLE", "--reason", "fine"],
    "explain": [],
    "export": [],
    "notify": [],
}


@pytest.fixture(params=["down", "no such user"])
def ledger_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "down":
        yield f"postgresql://slipway:s3cr3t@127.0.0.1:{free_ports(1)[0]}/slipway"
    else:
        new: Callable[[], str] = request.getfixturevalue("new_postgres")
        yield new().replace("slipway@", "stranger:s3cr3t@")


@pytest.mark.parametrize("command", WORDS)
def test_a_database_that_is_down_or_lets_nobody_in_is_told_before_anything_begins(
    tmp_path: Path, ledger_url: str, command: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    bundle = lora_bundle(home).digest
    project = stub_project(tmp_path)
    settings = yaml.safe_load((project.folder / "environment.yaml").read_text())
    settings["ledger_url"] = ledger_url
    settings["notifications"] = {"ops": {"kind": "webhook", "url": "http://127.0.0.1:9"}}
    (project.folder / "environment.yaml").write_text(yaml.safe_dump(settings))
    before = sorted(home.rglob("*"))
    words = [bundle if word == "BUNDLE" else word for word in WORDS[command]]
    with pytest.raises(SlipwayError) as found:
        app([command, *words, "--project", str(project.folder), "--home", str(home)], standalone_mode=False)
    assert for_users(found.value) is found.value  # `main` prints it, and ends with 2
    said = found.value.render()
    assert "the ledger cannot be used" in said
    assert "PGPASSWORD or ~/.pgpass" in said
    assert "s3cr3t" not in said
    assert [
        path for path in sorted(home.rglob("*")) if path.is_file() and path not in before and path.suffix != ".token"
    ] == []


def said_by(check: Callable[[], object]) -> str:
    with pytest.raises(SlipwayError) as found:
        check()
    return found.value.render()


def test_a_vllm_that_wants_another_key_names_the_variable_before_a_release_and_before_a_build(tmp_path: Path) -> None:
    project = stub_project(tmp_path)
    with answering(401, b'{"error": "Unauthorized"}', healthy=True) as place:
        port = int(place.rpartition(":")[2])
        vllm = project.environment.vllm.model_copy(update={"port": port})
        project = replace(project, environment=project.environment.model_copy(update={"vllm": vllm}))
        found = [said_by(check) for check in before_release(project, tmp_path, accept_blind_plan=True)]
        assert any("Unauthorized" in said and "set SLIPWAY_VLLM_API_KEY" in said for said in found)
        said = said_by(lambda: require_place(project, tmp_path))
        assert "Unauthorized" in said
        assert "set SLIPWAY_VLLM_API_KEY" in said


def judged(url: str, **more: Any) -> Any:
    tutor = load_project(Path("configs/tutor-judged"))
    assert tutor.rollout.judge is not None
    judge = tutor.rollout.judge.model_copy(update={"base_url": f"{url}/v1", "api_key_env": "JUDGE_KEY"} | more)
    vllm, gateway, admin = free_ports(3)
    gateways = tutor.environment.gateway.model_copy(update={"port": gateway, "admin_port": admin})
    parts = {"vllm": VllmConfig(port=vllm), "gateway": gateways}
    environment = tutor.environment.model_copy(update=parts)
    return replace(tutor, rollout=tutor.rollout.model_copy(update={"judge": judge}), environment=environment)


def test_a_judge_that_is_away_or_refuses_its_key_is_told_before_a_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    away = judged(f"http://127.0.0.1:{free_ports(1)[0]}")
    said = "\n".join(said_by(check) for check in before_release(away, tmp_path, accept_blind_plan=True))
    assert "the judge cannot be reached" in said
    with answering(401) as place:
        refused = judged(f"http://{place}")
        said = "\n".join(said_by(check) for check in before_release(refused, tmp_path, accept_blind_plan=True))
    assert "the judge refuses this key" in said
    assert "JUDGE_KEY" in said
    assert "sk-secret" not in said


def test_a_suites_judge_that_is_away_is_told_before_a_build(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    suite = {
        "name": "better",
        "description": "is better",
        "scorer": {"name": "judge", "judge": {"base_url": f"http://127.0.0.1:{port}/v1", "model": "wise"}},
        "samples": "holdout",
    }
    (tmp_path / "better").mkdir()
    (tmp_path / "better" / "eval.yaml").write_text(yaml.safe_dump(suite))
    evals = load_project(Path("configs/tutor")).evals.model_copy(update={"behaviour": ("better",)})
    said = said_by(lambda: require_judges_answer(evals, [tmp_path], None, {}))
    assert f"http://127.0.0.1:{port}/v1/models" in said


def test_a_gateway_that_others_reach_without_keys_is_warned_of_and_no_other() -> None:
    tutor = load_project(Path("configs/tutor"))

    def warned(**gateway: Any) -> list[str]:
        changed = tutor.environment.gateway.model_copy(update=gateway)
        return warnings_before_release(tutor.environment.model_copy(update={"gateway": changed}), tutor.rollout)

    assert warned() == []
    (said,) = warned(host="0.0.0.0")
    for part in ("0.0.0.0", "count as one", "1-canary", "gateway.api_keys", "trust_user_names: true"):
        assert part in said
    assert warned(host="0.0.0.0", trust_user_names=True) == []
    assert warned(host="0.0.0.0", api_keys=Path("keys.yaml")) == []
    assert len(warned(trust_user_names=False)) == 1
