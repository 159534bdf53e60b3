"""The agent's HTTP side: `/healthz`, and with the token `/adapters/DIGEST`, to be read and filled, and `/refused`.

Where a registry is named a POST names a bundle that the agent pulls by itself; elsewhere a PUT brings the bytes.
"""

import hmac
import json
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import IO, Any

from configs.agent import AgentConfig
from configs.errors import SlipwayError
from delivery.agent.folder import digest_in, take_in
from delivery.clients.bundles.layout import is_digest

PREFIX = "/adapters/"
LIMIT_BYTES = 16 << 30
MOST_WORDS_BYTES = 4096
IDLE_S = 60.0
REFUSED_S = 600.0  # what was refused longer ago, and never asked for since, is nobody's concern any more


class Agent(ThreadingHTTPServer):
    """Serves one folder. `writable`: adapters may be sent. `pulls`: they are pulled, and none may be sent."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], folder: Path, token: str, *, writable: bool, pulls: AgentConfig | None = None
    ):
        super().__init__(address, _Handler)
        self.folder = folder
        self.writable = writable and pulls is None
        self.pulls = pulls
        self.one_at_a_time = Lock()
        self._token = token.encode()
        self._refused: dict[str, tuple[float, str]] = {}

    def lets_in(self, header: str) -> bool:
        """Whether this Authorization header is ours."""
        return hmac.compare_digest(header.encode(), b"Bearer " + self._token)

    def remember(self, name: str, refusal: str) -> None:
        """Why an adapter was refused; empty when it is there."""
        self._refused.pop(name, None)
        if refusal:
            self._refused[name] = (time.monotonic(), refusal)

    def refused(self) -> dict[str, str]:
        """By adapter, why it was refused lately."""
        now = time.monotonic()
        return {name: why for name, (at, why) in list(self._refused.items()) if now - at < REFUSED_S}


class _Handler(BaseHTTPRequestHandler):
    server: Agent
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Who asks for an adapter has its bytes hashed."""
        if self.path == "/healthz":
            self._answer(HTTPStatus.OK, {"status": "ok"})
        elif self.path == "/refused":
            if self._is_let_in():
                self._answer(HTTPStatus.OK, self.server.refused())
        elif (name := self._name()) is not None:
            try:
                digest = digest_in(self.server.folder, name)
            except SlipwayError as error:
                self._answer(HTTPStatus.CONFLICT, {"error": str(error)})
                return
            if digest is None:
                self._answer(HTTPStatus.NOT_FOUND, {"error": f"there is no adapter {name} here"})
            else:
                self._answer(HTTPStatus.OK, {"digest": digest})

    def do_POST(self) -> None:
        """A bundle is named, by its digest in the registry, whose adapter is wanted."""
        self.close_connection = True
        name = self._name()
        if name is None:
            return
        if self.server.pulls is None:
            self._answer(HTTPStatus.FORBIDDEN, {"error": "this agent was told of no registry"})
            return
        wanted = self._words()
        if wanted is None:
            what = 'the body is {"digest": "sha256:...", "as_of": UNIX seconds}'
            self._answer(HTTPStatus.BAD_REQUEST, {"error": what})
            return
        from delivery.agent.pulled import pull_in  # an agent that pulls nothing does without all that this loads
        from delivery.clients.registry.errors import LyingRegistryError, RegistryError

        try:
            with self.server.one_at_a_time:
                digest = pull_in(self.server.folder, self.server.pulls, *wanted, name)
            self.server.remember(name, "")
            self._answer(HTTPStatus.CREATED, {"digest": digest})
        except SlipwayError as error:
            self.server.remember(name, in_one_line(error))
            is_away = isinstance(error, RegistryError) and not isinstance(error, LyingRegistryError)
            status = HTTPStatus.BAD_GATEWAY if is_away else HTTPStatus.UNPROCESSABLE_ENTITY
            self._answer(status, {"error": in_one_line(error)})

    def do_PUT(self) -> None:
        """An adapter arrives."""
        self.close_connection = True  # what is left of a refused body is not read
        name = self._name()
        if name is None:
            return
        if not self.server.writable:
            way = "are pulled" if self.server.pulls is not None else "come by a volume"
            self._answer(HTTPStatus.FORBIDDEN, {"error": f"adapters {way} here, and are not sent"})
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LIMIT_BYTES:
            self._answer(HTTPStatus.LENGTH_REQUIRED, {"error": f"Content-Length is {length!r}"})
            return
        try:
            with self.server.one_at_a_time:
                digest = take_in(self.server.folder, name, _Body(self.rfile, int(length)), LIMIT_BYTES)  # type: ignore[arg-type]
            self._answer(HTTPStatus.CREATED, {"digest": digest})
        except SlipwayError as error:
            self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _words(self) -> tuple[str, float] | None:
        """The digest, and as of when its signatures have to count."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MOST_WORDS_BYTES:
            return None
        try:
            said = json.loads(self.rfile.read(int(length)))
            digest, as_of = str(said["digest"]), float(said["as_of"])
        except (ValueError, KeyError, TypeError):
            return None
        return (digest, as_of) if is_digest(digest) and 0 <= as_of < 1e11 else None

    def _name(self) -> str | None:
        """The adapter's name; None when the request is answered already."""
        if not self.path.startswith(PREFIX):
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there is nothing under this path"})
            return None
        return self.path.removeprefix(PREFIX) if self._is_let_in() else None

    def _is_let_in(self) -> bool:
        """Whether the token is ours; the request is answered already when it is not."""
        if self.server.lets_in(self.headers.get("Authorization", "")):
            return True
        self._answer(HTTPStatus.UNAUTHORIZED, {"error": "this needs the agent's token"})
        return False

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:  # or a client would send its next request into it
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; what matters is told to whoever asks."""


def in_one_line(error: SlipwayError) -> str:
    """What happened and why, without where and what to do: it is shown beside other replicas."""
    return "; ".join(" ".join(text.split()) for text in (error.what, *(one.what for one in error.problems)))


class _Body:
    """A request's body, and not a byte of what comes behind it."""

    def __init__(self, source: IO[bytes], length: int):
        self._source = source
        self._left = length

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
