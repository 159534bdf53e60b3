"""The verdict over HTTP: four words that never blur, with their evidence, for whoever may read."""

from dataclasses import replace
from pathlib import Path

import pytest
import schemathesis
from control_scene import ControlScene
from hypothesis import HealthCheck, settings
from release_fakes import PLAN
from release_scene import in_canary_of, interrupt, killed_while, when
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from flows.control.api import verdict_of
from flows.control.guard import AccessGuard
from flows.control.room import Room
from flows.control.server import machine_doors

HERE = "http://127.0.0.1:8090"
VERDICT = "/api/v1/routes/tutor/verdict"
PROMISES = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


class Asked:
    """A scene, and a program with a token that asks about it."""

    def __init__(self, home: Path):
        self.control = ControlScene(home, real_s=0.0)
        self.token = self.control.people.put_token("ci", ("viewer",))
        guarded = AccessGuard(machine_doors(self.control.room), self.control.door)
        self.client = TestClient(guarded, base_url=HERE, headers={"authorization": f"Bearer {self.token}"})

    def verdict(self) -> tuple[str, str]:
        found = self.client.get(VERDICT).json()
        return found["verdict"], found["reason"]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_before_any_release_nothing_is_known_yet(asked: Asked) -> None:
    assert asked.verdict() == ("not yet", "nothing was ever released on this route")


def test_in_a_canary_it_comes_with_everything_that_was_compared(asked: Asked) -> None:
    scene = asked.control.scene
    when(scene.world, in_canary_of(scene), interrupt)
    with pytest.raises(KeyboardInterrupt):
        scene.release(site=replace(scene.site, owner="pid-1"))
    scene.ledger.acquire("local", "pid-1", 30, scene.world.clock())
    scene.world.sleep(1)
    found = asked.client.get(VERDICT).json()
    assert (found["verdict"], found["phase"], found["stage"]) == ("not yet", "stage", "1-canary")
    assert found["bundle"] == scene.new.digest
    assert found["evidence_needed"] == pytest.approx(20)
    assert [one["check"] for one in found["checks"]] == ["error_rate <= 0.2", "latency_p95_s <= 2"]
    assert all(one["candidate_requests"] > 0 for one in found["checks"][:1])


def test_what_came_since_the_controllers_last_word_counts_already(asked: Asked) -> None:
    scene = asked.control.scene
    killed_while(scene, in_canary_of(scene))
    scene.ledger.acquire("local", "pid-1", 3000, scene.world.clock())
    before = scene.ledger.unfinished("local", "tutor")
    assert before is not None
    scene.breaks(scene.new, 0)
    for _ in range(8):  # within the lease
        scene.world.sleep(1)
    found = asked.client.get(VERDICT).json()
    assert found["verdict"] == "worse"
    assert found["checks"][0]["candidate_requests"] > before.evidence.candidate.requests
    assert scene.ledger.unfinished("local", "tutor") == before, "asking changes nothing"


def test_without_a_controller_or_a_gateway_the_monitor_is_away(asked: Asked) -> None:
    scene = asked.control.scene
    killed_while(scene, in_canary_of(scene))
    assert asked.verdict() == ("monitor away", "no controller drives the release")


def test_a_gateway_that_does_not_answer_is_named(asked: Asked) -> None:
    scene = asked.control.scene
    killed_while(scene, in_canary_of(scene))
    scene.world.gateway_up = False
    assert asked.verdict() == ("monitor away", "no answer from gw")


def test_a_release_that_went_through_all_its_stages_was_within(asked: Asked) -> None:
    assert asked.control.scene.plan != PLAN
    asked.control.scene.plan = PLAN
    asked.control.scene.release()
    assert asked.verdict() == ("within", "the release went through all its stages")


@pytest.mark.parametrize(("word", "status"), [("within", 409), ("worse", 409)])
def test_a_webhook_reads_the_status_alone(asked: Asked, word: str, status: int) -> None:
    answer = asked.client.post(f"{VERDICT}/{word}", json={"name": "tutor", "phase": "Progressing"})
    assert answer.status_code == status
    assert answer.json()["verdict"] == "not yet"


def test_a_webhook_is_told_200_when_it_is_so(asked: Asked) -> None:
    scene = asked.control.scene
    scene.breaks(scene.new, 4)
    scene.release()
    assert asked.client.post(f"{VERDICT}/worse").status_code == 200
    assert asked.client.post(f"{VERDICT}/within").status_code == 409


def test_an_unknown_route_is_named_with_those_that_are_shown(asked: Asked) -> None:
    answer = asked.client.get("/api/v1/routes/other/verdict")
    assert (answer.status_code, "it has tutor" in answer.json()["detail"]) == (404, True)


def test_an_environment_that_cannot_be_read_is_no_verdict(asked: Asked, tmp_path: Path) -> None:
    asked.control.scene.ledger.close()
    ledger = tmp_path / "ledger.sqlite"
    ledger.write_bytes(b"this is no database" * 100)
    assert asked.client.get(VERDICT).status_code == 503


def test_a_look_that_is_fresh_is_not_taken_twice(asked: Asked) -> None:
    room: Room = asked.control.room
    first = room.look("tutor")
    assert room.look("tutor") is first
    assert first.found is not None
    assert verdict_of(first.found).verdict == "not yet"


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(tmp_path_factory.mktemp("standing"))


schema = schemathesis.openapi.from_dict(machine_doors(Room((), Path(".slipway"))).openapi())


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_promise_of_the_openapi_document_is_kept_for(case: schemathesis.Case, standing: Asked) -> None:
    case.headers["authorization"] = f"Bearer {standing.token}"
    response = standing.client.request(**case.as_transport_kwargs(base_url=HERE))
    case.validate_response(Response.from_any(response), checks=PROMISES)
