"""The registry that bundles are pushed to and pulled from, and whose signatures count.

No secret is written here: a login comes from Docker's own file or from the environment, and of a private key only the
path is named.
"""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from configs.errors import UNSAID
from configs.strict import Strict

HOST = r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)"
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"(?P<host>{HOST}(?::\d{{1,5}})?)/(?P<path>{PART}(?:/{PART})*)")
PEM = "-----BEGIN "


class RegistryConfig(Strict):
    """Any OCI registry. Logins: SLIPWAY_REGISTRY_USER and SLIPWAY_REGISTRY_PASSWORD, else Docker's config.json."""

    repository: str | None = Field(
        None, description="where bundles go by default, e.g. registry.example.com/team/adapters"
    )
    ca_file: Path | None = Field(
        None, description="certificates of a private authority; by default SSL_CERT_FILE, else those of this machine"
    )
    plain_http: bool = Field(
        False, description="speak HTTP without TLS; with this machine itself that is allowed anyway"
    )
    timeout_s: float = Field(30.0, gt=0, le=3600, description="for an answer, and for each part of one that streams")
    base_image: Path | None = Field(
        None, description="an OCI image layout on whose layers a second image is put, for what runs a shell in it"
    )

    @field_validator("repository")
    @classmethod
    def _is_one(cls, text: str | None) -> str | None:
        if text is not None and not REPOSITORY.fullmatch(text):
            raise ValueError(
                "no repository of a registry -> HOST[:PORT]/PATH in small letters, without tag or https://"
            )
        return text


class Signer(Strict):
    """One whose signatures count: the owner of a key, or of a certificate that an authority gave one of `names`."""

    public_key: str | None = Field(None, description="PEM: the text itself, or the path of a file")
    authority: str | None = Field(None, description="PEM of the authorities: the text itself, or the path of a file")
    names: tuple[str, ...] = Field((), description="with an authority: the subjects' names, e-mail addresses or URIs")
    routes: tuple[str, ...] = Field((), description="the routes whose bundles it may sign; by default all of them")

    @field_validator("public_key", "authority")
    @classmethod
    def _is_public(cls, text: str | None) -> str | None:
        if text is not None and "PRIVATE KEY" in text:
            cure = "name the public half: openssl pkey -in KEY -pubout"
            raise PydanticCustomError(UNSAID, "{text}", {"text": f"this is a private key -> {cure}"})
        return text

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.public_key is None) == (self.authority is None):
            raise ValueError("a signer has a public_key or an authority -> give one of them")
        if (self.authority is None) != (not self.names):
            raise ValueError(
                "names belong to an authority, and without them whoever has any certificate of it could sign"
                " -> names: [release@example.com]"
            )
        return self


class SigningKey(Strict):
    """What this machine signs with. SLIPWAY_SIGNING_KEY, _CERTIFICATE and _CHAIN name other files."""

    private_key: Path = Field(description="the path of a PEM file; its password is SLIPWAY_SIGNING_KEY_PASSWORD")
    certificate: Path | None = Field(None, description="for an authority: the certificate of this key")
    chain: tuple[Path, ...] = Field((), description="certificates between that one and the authority's own")

    @field_validator("private_key")
    @classmethod
    def _is_a_path(cls, path: Path) -> Path:
        if PEM in str(path):
            cure = "keep it in a file that only its owner reads, and name the file"
            raise PydanticCustomError(UNSAID, "{text}", {"text": f"a private key is never written here -> {cure}"})
        return path


class Signatures(Strict):
    """Who may sign what. With `required` nothing is pulled, nor loaded into vLLM, that none of them signed."""

    required: bool = False
    signers: dict[str, Signer] = Field(default_factory=dict, description="by a name of yours")
    sign_with: SigningKey | None = Field(None, description="with it, what is built and pushed here is signed")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.required and not self.signers:
            raise ValueError("signatures are required, and nobody's count -> name signers, with their public_key")
        return self
