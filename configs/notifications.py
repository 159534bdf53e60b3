"""Who is told when a release is refused or taken back, when something needs a look, and when an approval is wanted.

A secret is named here and never written: as an environment variable, or as a Secret block of Prefect's. The address of
a Slack or Teams webhook is such a secret: whoever has it may post there.
"""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from configs.errors import UNSAID
from configs.strict import Strict

MessageKind = Literal["alert", "approval", "rollback", "refusal", "live"]
USUAL: tuple[MessageKind, ...] = ("alert", "approval", "rollback", "refusal")
Security = Literal["starttls", "tls", "none"]
PORTS: dict[Security, int] = {"starttls": 587, "tls": 465, "none": 25}

ENV = re.compile(r"[A-Z][A-Z0-9_]*")
BLOCK = re.compile(r"[a-z0-9][a-z0-9-]*")
HEADER = re.compile(r"[A-Za-z0-9-]+")
CURE = "name where it is kept: {env: SLIPWAY_CHAT_URL}, or a Secret block of Prefect's: {prefect_secret: chat-url}"


class Secret(Strict):
    """Where a secret is kept."""

    env: str | None = Field(None, description="an environment variable of whoever tells: commands, worker, supervisor")
    prefect_secret: str | None = Field(None, description="a Secret block of Prefect's")

    def __str__(self) -> str:
        return self.env or f"Prefect's Secret block {self.prefect_secret}"

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.env is None) == (self.prefect_secret is None):
            raise ValueError(f"a secret is kept in one place -> {CURE}")
        return self


def _unsaid(text: str) -> PydanticCustomError:
    """An error that does not repeat its input."""
    return PydanticCustomError(UNSAID, "{text}", {"text": text})


def _names_only(given: Any) -> Any:
    """Refuses what looks like the secret itself, without repeating it."""
    places = {"env": ENV, "prefect_secret": BLOCK}
    named = given if isinstance(given, dict) else {}
    wrong = [key for key, name in places.items() if isinstance(named.get(key), str) and not name.fullmatch(named[key])]
    if isinstance(given, str) or wrong:
        raise _unsaid(f"a secret is never written here -> {CURE}")
    return given


SecretName = Annotated[Secret, BeforeValidator(_names_only)]


def _plain_or_named(given: Any) -> Any:
    """An address that holds no secret may be written; `Secret` says where any other is kept."""
    if not isinstance(given, str):
        return _names_only(given)
    try:
        parts = urlsplit(given)
        works = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        works = False
    if not works or re.search(r"[\s\x00-\x1f]", given):
        what = "this is no http:// or https:// address -> e.g. https://hooks.example.org/slipway"
        raise _unsaid(f"{what}; {CURE}")
    if parts.username is not None or parts.password is not None:
        raise _unsaid(f"an address here must not hold a password -> {CURE}")
    return given


class Receiver(Strict):
    """What all receivers have in common."""

    tell: tuple[MessageKind, ...] = Field(
        USUAL, min_length=1, description="of what; live: a release that ended well, told on request only"
    )


class Webhook(Receiver):
    """Gets every message as one JSON object, by POST."""

    kind: Literal["webhook"]
    url: Annotated[str | Secret, BeforeValidator(_plain_or_named)]
    headers: dict[str, SecretName] = Field(default_factory=dict, description="e.g. Authorization: {env: SLIPWAY_PAGER}")

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        wrong = sorted(name for name in headers if not HEADER.fullmatch(name))
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no name of a header -> letters, digits and dashes")
        return headers


class Slack(Receiver):
    """An incoming webhook of Slack's, or of what understands the same (Mattermost, Rocket.Chat)."""

    kind: Literal["slack"]
    url: SecretName


class Teams(Receiver):
    """A Microsoft Teams workflow that posts what its webhook is sent ("when a webhook request is received")."""

    kind: Literal["teams"]
    url: SecretName


class Email(Receiver):
    """By SMTP. Who logs in does it over TLS only."""

    kind: Literal["email"]
    host: str = Field(min_length=1)
    port: int | None = Field(None, ge=1, le=65535, description="by default 587, with security tls 465, with none 25")
    security: Security = Field("starttls", description="none: a relay of this machine or network that wants no login")
    sender: str = Field(description="an address")
    to: tuple[str, ...] = Field(min_length=1, description="addresses")
    user: SecretName | None = Field(None, description="none: no login")
    password: SecretName | None = None

    @property
    def at_port(self) -> int:
        """The port, or what is usual."""
        return self.port or PORTS[self.security]

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, found: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (found,) if isinstance(found, str) else found:
            if not re.fullmatch(r"[^@\s<>,]+@[^@\s<>,]+", address):
                raise ValueError(f"{address!r} is no e-mail address -> e.g. ops@example.org")
        return found

    @model_validator(mode="after")
    def _logs_in_safely(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together -> name both, or none of them for no login")
        if self.user is not None and self.security == "none":
            raise ValueError("a password would go over the network in the clear -> security: starttls, or tls")
        return self


class PrefectEvents(Receiver):
    """An event `slipway.<kind>` of the Prefect server that PREFECT_API_URL names, for its automations."""

    kind: Literal["prefect"]


AnyReceiver = Annotated[Webhook | Slack | Teams | Email | PrefectEvents, Field(discriminator="kind")]
ReceiverName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Notifications = dict[ReceiverName, AnyReceiver]
