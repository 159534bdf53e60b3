"""Who may ask the gateway, for what, and how much: a file that holds digests of keys, never a key."""

from typing import Self

from pydantic import AwareDatetime, Field, model_validator

from configs.strict import Strict


class ApiKey(Strict):
    """One client. A budget holds for the name, over all of its keys and routes; it refills evenly."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="in logs, metrics and users' shares")
    sha256: tuple[str, ...] = Field(
        min_length=1, description="of each key that counts, in hex: two of them while a key is being exchanged"
    )
    routes: tuple[str, ...] | None = Field(None, min_length=1, description="by default all")
    requests_per_minute: int | None = Field(None, ge=1, description="a minute's worth may come at once")
    tokens_per_minute: int | None = Field(None, ge=1, description="prompt and answer; set aside when a request begins")
    tokens_per_day: int | None = Field(None, ge=1)
    concurrent_requests: int | None = Field(None, ge=1)
    expires_at: AwareDatetime | None = Field(None, description="e.g. 2027-01-31T00:00:00Z")

    @model_validator(mode="after")
    def _digests(self) -> Self:
        for digest in self.sha256:
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(
                    f"{digest[:12]!r}... is no SHA-256 digest of 64 lower-case hex digits"
                    " -> make a key with: python -m delivery.gateway.keys.new_key NAME"
                )
        return self


class ApiKeys(Strict):
    """The file. Without any key nobody is let in."""

    keys: tuple[ApiKey, ...]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [key.name for key in self.keys]
        digests = [digest for key in self.keys for digest in key.sha256]
        for what, found in (("name", names), ("digest", digests)):
            twice = sorted({value for value in found if found.count(value) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0][:20]!r} is given twice -> every key needs its own")
        return self
