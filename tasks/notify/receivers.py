"""An environment's receivers, ready to be sent to. Secrets are looked up for each message, where they are named."""

import os
from collections.abc import Callable, Mapping
from functools import partial

from configs.notifications import AnyReceiver, Email, Notifications, PrefectEvents, Secret, Slack, Teams, Webhook
from delivery.clients.receivers import shapes
from delivery.clients.receivers.errors import ReceiverError
from delivery.clients.receivers.mail import send_mail
from delivery.clients.receivers.webhook import post
from delivery.release.messages import ReleaseMessage

Send = Callable[[ReleaseMessage], str]
"""What the receiver answered; ReceiverError when it did not take the message."""


def senders(notifications: Notifications, environ: Mapping[str, str] = os.environ) -> dict[str, Send]:
    """By receiver's name."""
    return {name: partial(_send, receiver, environ) for name, receiver in notifications.items()}


def _send(receiver: AnyReceiver, environ: Mapping[str, str], message: ReleaseMessage) -> str:
    match receiver:
        case Webhook():
            headers = {name: _read(secret, environ) for name, secret in receiver.headers.items()}
            url = _read(receiver.url, environ) if isinstance(receiver.url, Secret) else receiver.url
            heads = {"Idempotency-Key": message.key, **headers}
            return post(url, shapes.generic(message), heads, (*headers.values(), url))
        case Slack() | Teams():
            url = _read(receiver.url, environ)
            shape = shapes.slack if isinstance(receiver, Slack) else shapes.teams
            return post(url, shape(message), {}, (url,))
        case Email():
            user, password = (_read(one, environ) if one else "" for one in (receiver.user, receiver.password))
            return send_mail(receiver, message, user, password)
        case PrefectEvents():
            from tasks.notify.prefect_events import emit  # Prefect takes seconds to import

            return emit(message)


def _read(secret: Secret, environ: Mapping[str, str]) -> str:
    if secret.env is not None:
        found = environ.get(secret.env, "").strip()
        if not found:
            raise ReceiverError(f"{secret.env} is not set", cure=f"export {secret.env}=... where Slipway runs")
        return found
    from tasks.notify.prefect_events import secret_block

    return secret_block(secret.prefect_secret or "")
