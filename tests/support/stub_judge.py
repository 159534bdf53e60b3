"""A judge over HTTP that is good, biased, partial, slow, out of order or silent, as a test tells it to be."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Shown = dict[str, Any]  # conversation, answer_A, answer_B
Behaviour = Callable[[Shown], str | int]
"""The reply's text, or an HTTP status."""


def better(place: str) -> str:
    return json.dumps({"better": place})


def prefers(word: str) -> Behaviour:
    """The answer that holds this word, wherever it stands; a tie when both or neither do."""

    def behave(shown: Shown) -> str:
        has = word in shown["answer_A"], word in shown["answer_B"]
        return better("tie" if has[0] == has[1] else "A" if has[0] else "B")

    return behave


def always_a(shown: Shown) -> str:
    return better("A")


def garbage(shown: Shown) -> str:
    return "Both answers have merits, but A is better."


class StubJudge:
    """Use it as a context. `hold()`: what is asked from then on waits until `let_go()`."""

    def __init__(self, behave: Behaviour, port: int = 0):
        self.behave = behave
        self.bodies: list[dict[str, Any]] = []
        self.shown: list[Shown] = []
        self.keys: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self._lock, self._free = threading.Lock(), threading.Event()
        self._free.set()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, data = judge.answer(self.path, self.headers.get("Authorization"), body)
                try:
                    self.wfile.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
                except OSError:
                    self.close_connection = True  # whoever asked did not wait

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> "StubJudge":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.let_go()
        self.server.shutdown()
        self.server.server_close()

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    def answer(self, path: str, key: str | None, body: dict[str, Any]) -> tuple[int, bytes]:
        assert path == "/v1/chat/completions"
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            self.shown.append(json.loads(body["messages"][-1]["content"]))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self._free.wait(300)
        reply = self.behave(self.shown_in(body))
        with self._lock:
            self.at_once -= 1
        if isinstance(reply, int):
            return reply, json.dumps({"error": {"message": f"status {reply}, key {key}"}}).encode()
        message = {"role": "assistant", "content": reply}
        return 200, json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()

    @staticmethod
    def shown_in(body: dict[str, Any]) -> Shown:
        shown: Shown = json.loads(body["messages"][-1]["content"])
        return shown
