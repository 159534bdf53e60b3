"""A teacher over HTTP that says what a test tells it to, and remembers what it was asked."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[str], str | int | dict[str, Any]]
"""Of the last message: its text, an HTTP status, or the whole body of its answer."""


class StubTeacher:
    """Use it as a context."""

    def __init__(self, reply: Reply):
        self.reply = reply
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = teacher.answer(body, self.headers.get("Authorization"))
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def answer(self, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        found = self.reply(body["messages"][-1]["content"])
        with self._lock:
            self._at_once -= 1
        if isinstance(found, int):
            return found, {"error": "not now"}
        if isinstance(found, dict):
            return 200, found
        return 200, {"choices": [{"message": {"content": found}, "finish_reason": "stop"}]}

    def __enter__(self) -> "StubTeacher":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *found: object) -> None:
        self._server.shutdown()
        self._server.server_close()
