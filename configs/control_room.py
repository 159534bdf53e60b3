"""The control room: where its page listens, who may come in, and what each role may do there."""

import ipaddress
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from configs.strict import Strict
from configs.urls import BaseUrl

PersonRole = Literal["viewer", "reviewer", "operator", "approver"]
Deed = Literal[
    "read", "review", "release", "roll back", "watch", "build", "refresh", "approve", "reject", "lift quarantine"
]

MAY: dict[PersonRole, frozenset[Deed]] = {
    "viewer": frozenset({"read"}),
    "reviewer": frozenset({"read", "review"}),
    "operator": frozenset({"read", "release", "roll back", "watch", "build", "refresh"}),
    "approver": frozenset({"read", "roll back", "approve", "reject", "lift quarantine"}),
}
"""A person may have several roles. Whoever may act at all may take a release back."""


def may(roles: frozenset[PersonRole], deed: Deed) -> bool:
    """Whether one of the roles allows it."""
    return any(deed in MAY[role] for role in roles)


class ProxySignIn(Strict):
    """A proxy in front signs people in and says who they are; their roles come from the file of people all the same."""

    header: str = Field("X-Forwarded-User", pattern=r"^[A-Za-z][A-Za-z0-9-]*$", description="holds the person's name")
    addresses: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"), min_length=1, description="the proxy's own; the header of anybody else is not believed"
    )

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [one for one in given if not _is_address(one)]
        if wrong:
            raise ValueError(f"no IP address: {', '.join(wrong)} -> name the proxy's address, as in 10.0.0.7")
        return given


class ControlRoom(Strict):
    """`slipway ui`: one page for people, and the verdict for machines."""

    host: str = "127.0.0.1"
    port: int = Field(8090, ge=0, le=65535, description="0 is any free one")
    public_url: BaseUrl | None = Field(
        None, description="where browsers reach it through a proxy that speaks TLS; needed beyond this machine"
    )
    read_without_sign_in: bool = Field(False, description="whoever reaches the page may look; nobody acts unnamed")
    proxy: ProxySignIn | None = Field(None, description="a proxy's header says who somebody is")
    session_s: float = Field(28_800.0, gt=0, le=604_800, description="a sign-in ends after so long without a request")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host == "localhost" or (_is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @model_validator(mode="after")
    def _passwords_stay_secret(self) -> Self:
        secure = self.public_url is not None and urlsplit(self.public_url).scheme == "https"
        if not self.is_local and not secure:
            raise ValueError(
                f"host {self.host} is reached from other machines, and passwords would cross the network unencrypted"
                " -> keep 127.0.0.1, or put a proxy with TLS in front and name it: public_url: https://..."
            )
        return self


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
