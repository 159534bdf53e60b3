"""The agent's HTTP side: `/healthz`, and with the token `/adapters/DIGEST`, to be read (GET) and filled (PUT)."""

import hmac
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import IO, Any

from configs.errors import SlipwayError
from delivery.agent.folder import digest_in, take_in

PREFIX = "/adapters/"
LIMIT_BYTES = 16 << 30
IDLE_S = 60.0


class Agent(ThreadingHTTPServer):
    """Serves one folder. `writable`: whether adapters may be sent, or are on a volume that others fill."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], folder: Path, token: str, *, writable: bool):
        super().__init__(address, _Handler)
        self.folder = folder
        self.writable = writable
        self.one_at_a_time = Lock()
        self._token = token.encode()

    def lets_in(self, header: str) -> bool:
        """Whether this Authorization header is ours."""
        return hmac.compare_digest(header.encode(), b"Bearer " + self._token)


class _Handler(BaseHTTPRequestHandler):
    server: Agent
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Who asks for an adapter has its bytes hashed."""
        if self.path == "/healthz":
            self._answer(HTTPStatus.OK, {"status": "ok"})
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

    def do_PUT(self) -> None:
        """An adapter arrives."""
        self.close_connection = True  # what is left of a refused body is not read
        name = self._name()
        if name is None:
            return
        if not self.server.writable:
            self._answer(HTTPStatus.FORBIDDEN, {"error": "adapters come by a volume here, and are not sent"})
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

    def _name(self) -> str | None:
        """The adapter's name; None when the request is answered already."""
        if not self.path.startswith(PREFIX):
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there is nothing under this path"})
            return None
        if not self.server.lets_in(self.headers.get("Authorization", "")):
            self._answer(HTTPStatus.UNAUTHORIZED, {"error": "this needs the agent's token"})
            return None
        return self.path.removeprefix(PREFIX)

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


class _Body:
    """A request's body, and not a byte of what comes behind it."""

    def __init__(self, source: IO[bytes], length: int):
        self._source = source
        self._left = length

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
