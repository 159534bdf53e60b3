"""Requests to one registry: who asks, over which scheme, for how long, how often, and what an answer means.

oras carries them and knows logins and tokens. It takes any blob for the one that was asked for, waits without a limit,
and reads whole uploads into memory: so the limits, the streams and every digest are ours.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import oras.provider
import requests
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError, ReadTimeoutError

from configs.registry import RegistryConfig
from delivery.clients.registry.errors import PassingError, RegistryError, refused, unreachable
from delivery.clients.registry.login import Environ, Login

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PAUSES_S = (0.5, 2.0, 5.0)  # between tries of what may pass by itself
SLOWEST_BYTES_S = 1024  # over a whole timeout: less is no answer
CHUNK = 1024 * 1024
T = TypeVar("T")
Payload = bytes | Path | None


class Wire:
    """One host, asked as one user. Every method raises RegistryError."""

    def __init__(
        self,
        host: str,
        config: RegistryConfig | None = None,
        *,
        environ: Environ = os.environ,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.host = host
        self._config = config or RegistryConfig()
        self._sleep, self._clock = sleep, clock
        ca_file = self._config.ca_file or environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
        verify: bool | str = str(ca_file) if ca_file else True
        if ca_file and not Path(ca_file).is_file():
            raise RegistryError(
                f"there is no file of certificates {ca_file}", where="environment.yaml: registry.ca_file"
            )
        self._oras = oras.provider.Registry(hostname=host, tls_verify=verify)
        session: requests.Session = self._oras.session
        session.trust_env = False  # ~/.netrc would take the place of our login
        session.proxies = get_environ_proxies(f"https://{host}")
        session.verify = verify
        session.request = partial(session.request, timeout=self._config.timeout_s)
        self._session = session
        at_home = self._config.repository is None or self._config.repository.partition("/")[0] == host
        self._login = Login(host, self._oras.auth, at_home=at_home, environ=environ)
        self._scheme = ""

    @property
    def scheme(self) -> str:
        """https, but http where it was asked for, or where this machine itself speaks no TLS."""
        if not self._scheme:
            is_here = (self.host.rpartition(":")[0] or self.host) in LOOPBACK or self.host in LOOPBACK
            self._scheme = "http" if self._config.plain_http else "https"
            if is_here and self._scheme == "https" and not self._speaks_tls():
                self._scheme = "http"
        return self._scheme

    @property
    def timeout_s(self) -> float:
        """For an answer, and for each part of one."""
        return self._config.timeout_s

    def url(self, path: str) -> str:
        """`path` starts with /v2/."""
        return f"{self.scheme}://{self.host}{path}"

    def here(self, location: str) -> str:
        """The URL that a Location header means; one of this host never leads from TLS to none."""
        url = urljoin(self.url("/"), location)
        parts = urlsplit(url)
        return parts._replace(scheme=self.scheme).geturl() if parts.netloc == self.host else url

    def patiently(self, act: Callable[[], T]) -> T:
        """What may pass by itself is tried again, a few times."""
        for pause_s in PAUSES_S:
            try:
                return act()
            except PassingError:
                self._sleep(pause_s)
        return act()

    def ask(
        self,
        method: str,
        url: str,
        where: str,
        *,
        wanted: tuple[int, ...] = (200,),
        headers: Mapping[str, str] | None = None,
        body: Payload = None,
    ) -> requests.Response:
        """One answer, whose body is not read yet: close it. A file as body is streamed."""
        response = self._once(method, url, where, headers or {}, body)
        if response.status_code == 401 and self._answered(response, where):
            response.close()
            response = self._once(method, url, where, headers or {}, body)
        if response.status_code in wanted:
            return response
        with response:
            try:
                text = response.raw.read(2000, decode_content=True)
            except Exception:  # noqa: BLE001 - its beginning is for people; the status is what counts
                text = b""
            raise refused(response, text, where, has_login=self._login.is_known)

    def parts_of(self, response: requests.Response, where: str) -> Iterator[bytes]:
        """An answer's body as it comes. An answer that dribbles ends in PassingError."""
        since, got = self._clock(), 0
        while True:
            with self._explained(where):
                part: bytes = _read(response.raw)
            if not part:
                return
            yield part
            got += len(part)
            took_s = self._clock() - since
            if took_s > self.timeout_s:
                if got < SLOWEST_BYTES_S * took_s:
                    raise PassingError(
                        f"the registry is too slow: {got} bytes in {took_s:.0f} s",
                        where=where,
                        cure="repeat the command: what has arrived is kept; or raise registry.timeout_s",
                    )
                since, got = self._clock(), 0

    def _once(self, method: str, url: str, where: str, headers: Mapping[str, str], body: Payload) -> requests.Response:
        sent = {"Accept-Encoding": "identity", **headers}
        if urlsplit(url).netloc == self.host:
            sent |= self._login.header
        with self._explained(where):
            if not isinstance(body, Path):
                return self._session.request(method, url, headers=sent, data=body, stream=True)
            with body.open("rb") as file:
                return self._session.request(method, url, headers=sent, data=file, stream=True)

    def _answered(self, response: requests.Response, where: str) -> bool:
        with self._explained(where):
            return self._login.answer(response, may_be_plain=self.scheme == "http")

    def _speaks_tls(self) -> bool:
        try:
            self._session.request("GET", f"https://{self.host}/v2/", stream=True).close()
        except requests.exceptions.SSLError as error:
            return "CERTIFICATE_VERIFY_FAILED" in str(error)
        except requests.RequestException:
            return False
        return True

    @contextmanager
    def _explained(self, where: str) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as error:
            raise unreachable(error, where, self.timeout_s) from error


def _read(raw: Any) -> bytes:
    """What has arrived, at least one byte of it; nothing at the end."""
    try:
        return bytes(raw.read1(CHUNK, decode_content=False))
    except ReadTimeoutError as error:
        raise requests.Timeout(error) from error
    except HTTPError as error:
        raise requests.ConnectionError(error) from error
