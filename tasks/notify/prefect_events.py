"""Messages as Prefect's events, for its automations, and secrets out of its blocks.

An event is posted to the API that the server's own clients use, and not through `emit_event`: that one returns before
anything was sent, and nobody learns whether it arrived.
"""

import datetime
import uuid
from typing import Any

import httpx

from delivery.clients.receivers.errors import ReceiverError
from delivery.release.messages import ReleaseMessage

TIMEOUT_S = 10.0
NAMESPACE = uuid.UUID("6f3c1a52-5b0e-4c6a-9d2e-0d4b7c1f8a11")
NO_SERVER = "no Prefect server is named"


def event_of(message: ReleaseMessage) -> Any:
    """The event `slipway.<kind>`; the same message is the same event, so that one that comes twice counts once."""
    from prefect.events import Event

    resource = {
        "prefect.resource.id": f"slipway.environment.{message.environment}",
        "prefect.resource.name": message.environment,
        "slipway.route": message.route,
    }
    related = []
    for kind, name in (("route", message.route), ("release", message.release_id), ("bundle", message.bundle)):
        if name:
            related.append({"prefect.resource.id": f"slipway.{kind}.{name}", "prefect.resource.role": kind})
    return Event.model_validate(
        {
            "event": f"slipway.{message.kind}",
            "id": uuid.uuid5(NAMESPACE, f"{message.environment} {message.key}"),
            "occurred": datetime.datetime.fromtimestamp(message.at, datetime.UTC),
            "resource": resource,
            "related": related,
            "payload": message.model_dump(mode="json"),
        }
    )


def emit(message: ReleaseMessage) -> str:
    """What the server answered. ReceiverError says why it did not take the event, with the cure."""
    _require_named()
    body = event_of(message).model_dump(mode="json")
    return _ask(lambda client: f"status {client.request('POST', '/events', json=[body]).status_code}")


def secret_block(name: str) -> str:
    """What a Secret block holds."""
    from prefect.blocks.system import Secret

    _require_named()
    try:
        return str(Secret.load(name, _sync=True).get())  # type: ignore[call-arg, union-attr]
    except ValueError as error:
        raise ReceiverError(f"Prefect has no Secret block {name}", cure="make one: its page Blocks") from error
    except Exception as error:
        raise _explained(error) from error


def _require_named() -> None:
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise ReceiverError(NO_SERVER, where="PREFECT_API_URL", cure="export PREFECT_API_URL=... where Slipway runs")


def _ask(job: Any) -> str:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": httpx.Timeout(TIMEOUT_S)}) as client,
        ):
            return str(job(client))
    except Exception as error:
        raise _explained(error) from error


def _explained(error: Exception) -> Exception:
    from tasks.prefect_server import explained

    found = explained(error)
    return error if found is None else ReceiverError(found.what, where=found.where, cure=found.cure)
