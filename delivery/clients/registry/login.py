"""Who asks a registry: a login from the environment or Docker's config.json, and what is answered to its challenge."""

import base64
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import oras.auth.utils
import oras.container
import requests

from configs.errors import SlipwayError

USER, PASSWORD = "SLIPWAY_REGISTRY_USER", "SLIPWAY_REGISTRY_PASSWORD"
Environ = Mapping[str, str]

logging.getLogger("oras.logger").setLevel(logging.CRITICAL)  # it would print what we say in our own words


class Login:
    """For one host; `backend` is oras's, which reads Docker's file, asks its helpers, and fetches tokens."""

    def __init__(self, host: str, backend: Any, *, at_home: bool, environ: Environ = os.environ):
        """`at_home`: the login of the environment is meant for this host."""
        self._backend = backend
        self.header: dict[str, str] = {}
        user, password = environ.get(USER, ""), environ.get(PASSWORD, "")
        if bool(user) != bool(password):
            raise SlipwayError(f"only one of {USER} and {PASSWORD} is set", cure="set both, or none of them")
        if user and at_home:
            backend.set_basic_auth(user, password)
        else:
            _read_docker_file(host, backend, environ)
        self._basic: str | None = getattr(backend, "_basic_auth", None)

    @property
    def is_known(self) -> bool:
        """Whether there is a user and a password."""
        return self._basic is not None

    def answer(self, response: requests.Response, *, may_be_plain: bool) -> bool:
        """Takes up the challenge of a 401; whether asking again makes sense. A password never goes out in the clear."""
        challenge = response.headers.get("Www-Authenticate", "")
        if challenge.lower().startswith("basic"):
            fresh = {"Authorization": f"Basic {self._basic}"} if self._basic else {}
        elif challenge.lower().startswith("bearer"):
            realm = oras.auth.utils.parse_auth_header(challenge).realm or ""
            if not realm.startswith(("https://", "http://") if may_be_plain else "https://"):
                raise SlipwayError(
                    f"the registry sends logins to {realm!r}, which is no https:// address",
                    cure="ask whoever runs it for a token service with TLS",
                )
            fresh, _ = self._backend.authenticate_request(response, {}, refresh=True)
        else:
            fresh = {}
        is_new = bool(fresh.get("Authorization")) and fresh != self.header
        self.header = fresh if is_new else self.header
        return is_new


def _read_docker_file(host: str, backend: Any, environ: Environ) -> None:
    folder = environ.get("DOCKER_CONFIG")
    file = (
        Path(folder) / "config.json" if folder else Path(environ.get("HOME", "~")).expanduser() / ".docker/config.json"
    )
    if not file.is_file():
        return
    try:
        backend._auth_config = _logins_in(file)
        backend.load_configs(oras.container.Container("any/thing", registry=host))
        if getattr(backend, "_basic_auth", None):
            base64.b64decode(backend._basic_auth, validate=True)
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise SlipwayError(
            "Docker's file with logins cannot be used", where=str(file), cure=f"log in anew: docker login {host}"
        ) from error


def _logins_in(file: Path) -> dict[str, Any]:
    """Of this file alone: oras would read the one in the home folder too."""
    read = json.loads(file.read_bytes())
    return {"auths": {}, "credHelpers": {}} | {n: read[n] for n in ("auths", "credsStore", "credHelpers") if n in read}
