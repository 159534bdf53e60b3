"""A real Prefect server takes messages as events, an automation acts on one, and a Secret block holds an address."""

import time
from pathlib import Path

import pytest
from prefect.blocks.system import Secret as SecretBlock
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_prefect import RealPrefect, real_prefect
from receivers import Hooks

from configs.notifications import Notifications, PrefectEvents, Secret, Slack
from delivery.clients.processes.ports import free_ports
from delivery.clients.receivers.errors import ReceiverError
from delivery.release.messages import ReleaseMessage
from tasks.notify.prefect_events import emit
from tasks.notify.receivers import senders

MESSAGE = ReleaseMessage(
    key="r1/rollback",
    kind="rollback",
    title="tutor: bundle 1a2b is taken back by ann",
    text="complaints",
    environment="local",
    route="tutor",
    release_id="r1",
    bundle="sha256:1a2b",
    at=0.0,
)
AUTOMATION = {
    "name": "rollbacks",
    "trigger": {
        "type": "event",
        "posture": "Reactive",
        "expect": ["slipway.rollback"],
        "match": {"prefect.resource.id": "slipway.environment.*"},
        "threshold": 1,
        "within": 0,
    },
    "actions": [{"type": "do-nothing"}],
}


def test_without_a_server_it_is_said_which_variable_names_it() -> None:
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(ReceiverError, match="no Prefect server") as found:
        emit(MESSAGE)
    assert "PREFECT_API_URL" in found.value.cure


def test_a_server_that_is_away_is_said_with_the_cure() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/api"
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(ReceiverError, match="cannot be reached") as found:
        emit(MESSAGE)
    assert found.value.where == url


@pytest.mark.live
def test_a_real_server_acts_on_a_message_and_keeps_it_once(tmp_path: Path) -> None:
    message = MESSAGE.model_copy(update={"at": time.time()})
    with real_prefect(tmp_path) as server, temporary_settings({PREFECT_API_URL: server.api}):
        server.post("/automations/", AUTOMATION)
        receivers: Notifications = {
            "automations": PrefectEvents(kind="prefect"),
            "chat": Slack(kind="slack", url=Secret(prefect_secret="chat-url")),
        }
        send = senders(receivers)
        deadline = time.monotonic() + 60
        while not events(server, "prefect.automation.triggered"):  # it takes a moment to know a new automation
            assert time.monotonic() < deadline
            assert send["automations"](message) == "status 204"
            time.sleep(0.5)
        assert send["automations"](message) == "status 204"
        (kept,) = events(server, "slipway.rollback")
        assert kept["payload"]["text"] == "complaints"
        related = [one["prefect.resource.id"] for one in kept["related"]]
        assert related == ["slipway.route.tutor", "slipway.release.r1", "slipway.bundle.sha256:1a2b"]
        with pytest.raises(ReceiverError, match="no Secret block chat-url"):
            send["chat"](message)
        with Hooks() as hooks:
            SecretBlock(value=hooks.url).save("chat-url", _sync=True)
            assert send["chat"](message) == "status 200: ok"
        assert "taken back by ann" in hooks.got[0][2]["text"]


def events(server: RealPrefect, name: str) -> list[dict]:  # type: ignore[type-arg]
    found = server.post("/events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50})
    return list(found["events"])
