"""A stand-in for vLLM's HTTP interface: adapters, health, completions, and switches for what can go wrong.

Imported, or run as a process: `python stub_vllm.py --port 8100 [...any of vLLM's arguments]`. What it answers was
copied from vLLM 0.32.
"""

import itertools
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StubVllm:
    def __init__(self, port: int = 0, base: str = "base", root: str = "/models/base", host: str = "127.0.0.1"):
        self.cards = {base: {"id": base, "root": root, "parent": None}}
        self.base = base
        self.health = 200
        self.refuse_load: tuple[int, str] | None = None
        self.forgets_loads = False
        self.completion: tuple[int, dict] | None = None
        self.posts: list[tuple[str, dict]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub.get(self)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                stub.posts.append((self.path, body))
                stub.post(self, body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "StubVllm":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def get(self, http: BaseHTTPRequestHandler) -> None:
        if http.path == "/health":
            answer(http, self.health, b"")
        elif http.path == "/version":
            answer(http, 200, {"version": "0.32.0+stub"})
        else:
            answer(http, 200, {"object": "list", "data": list(self.cards.values())})

    def post(self, http: BaseHTTPRequestHandler, body: dict) -> None:
        if http.path == "/v1/load_lora_adapter":
            name = body["lora_name"]
            if self.refuse_load:
                answer(http, self.refuse_load[0], error(*self.refuse_load))
            elif name in self.cards:
                answer(http, 400, error(400, f"The lora adapter '{name}' has already been loaded."))
            else:
                if not self.forgets_loads:
                    self.cards[name] = {"id": name, "root": body["lora_path"], "parent": self.base}
                answer(http, 200, b"Success: LoRA adapter added successfully.")
        elif http.path == "/v1/unload_lora_adapter":
            known = self.cards.pop(body["lora_name"], None)
            answer(
                http, 200 if known else 404, b"Success" if known else error(404, "The lora adapter cannot be found.")
            )
        elif http.path == "/engine_dies":  # no such path in vLLM: its engine dies by itself, and the server lives on
            self.health = 503
            answer(http, 200, b"")
        elif self.completion:
            answer(http, *self.completion)
        elif body["model"] not in self.cards:
            answer(http, 404, error(404, f"The model `{body['model']}` does not exist."))
        else:
            choice = {"index": 0, "text": " 2", "message": {"content": "2"}, "finish_reason": "length"}
            usage = {"prompt_tokens": 5, "completion_tokens": 1}
            answer(http, 200, {"model": body["model"], "choices": [choice], "usage": usage})


def error(code: int, message: str) -> dict:
    return {"error": {"message": message, "type": "Error", "param": None, "code": code}}


def answer(http: BaseHTTPRequestHandler, status: int, body: bytes | dict) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    http.send_response(status)
    http.send_header("content-type", "text/plain" if isinstance(body, bytes) else "application/json")
    http.send_header("content-length", str(len(data)))
    http.end_headers()
    http.wfile.write(data)


if __name__ == "__main__":
    words = [part for word in sys.argv[1:] for part in word.split("=", 1)]
    arguments = dict(itertools.pairwise(words))
    if "--fail" in sys.argv:
        print("ValueError: this stub was told to fail")
        sys.exit(3)
    time.sleep(float(arguments.get("--start-s", 0)))
    host = arguments.get("--host", "127.0.0.1")
    stub = StubVllm(int(arguments["--port"]), arguments["--served-model-name"], arguments["--model"], host)
    modules = sys.argv[sys.argv.index("--lora-modules") + 1 :] if "--lora-modules" in sys.argv else []
    for name, path in (word.split("=", 1) for word in itertools.takewhile(lambda word: "=" in word, modules)):
        stub.cards[name] = {"id": name, "root": path, "parent": stub.base}
    signal.signal(
        signal.SIGTERM, lambda number, frame: os._exit(0)
    )  # as a container's first process it would ignore it
    print("Starting vLLM server", flush=True)
    stub.server.serve_forever()
