"""A stand-in for Prefect's server: it takes flow runs, states, logs and artifacts, and keeps what it was told."""

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NOW = "2026-11-22T00:00:00Z"


class StubPrefect:
    """`url` is what PREFECT_API_URL wants. Every body that was sent is kept by its path's first part."""

    def __init__(self) -> None:
        self.told: dict[str, list[dict[str, Any]]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.refuses: set[str] = set()  # "artifacts", or "ends": how a run ended
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(stub.get(self.path.removeprefix("/api/")))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
                self.reply(stub.post(self.path.removeprefix("/api/"), body))

            do_PATCH = do_POST  # noqa: N815 - http.server's name

            def reply(self, found: tuple[int, Any]) -> None:
                status, body = found
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"

    def __enter__(self) -> "StubPrefect":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def get(self, path: str) -> tuple[int, Any]:
        kind, _, rest = path.partition("/")
        if kind == "flow_runs" and rest in self.runs:
            return 200, self.runs[rest]
        if path == "admin/version":
            return 200, "3.8.8"
        return (200, "ok") if kind in ("health", "hello") else (404, {"detail": f"no {path}"})

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        kind, _, rest = path.partition("/")
        is_end = rest.endswith("/set_state") and body["state"]["type"] not in ("PENDING", "RUNNING")
        if kind in self.refuses or (is_end and "ends" in self.refuses):
            return 500, {"detail": "its database is full"}
        self.told.setdefault(kind, []).append(body)
        made = {"id": str(uuid.uuid4()), "created": NOW, "updated": NOW}
        if rest.endswith("/set_state"):
            run = self.runs[rest.split("/")[0]]
            run["state"] = {**made, "timestamp": NOW, **body["state"]}
            return 201, {"state": run["state"], "status": "ACCEPT", "details": {"type": "accept_details"}}
        if kind == "flow_runs" and rest:
            self.runs[rest].update(body)
            return 200, {}
        if kind == "flow_runs":
            run = self.runs[made["id"]] = {"name": "a-run", "run_count": 1, **made, **body}
            return 201, run
        if path == "flows/filter":
            return 200, []
        if kind in ("flows", "artifacts"):
            return 201, {**made, **body}
        return 201, {}

    @property
    def pages(self) -> list[str]:
        """The Markdown that was shown."""
        return [body["data"] for body in self.told.get("artifacts", []) if body.get("type") == "markdown"]

    @property
    def ends(self) -> list[str]:
        """How flow runs ended, by their states' names, oldest first."""
        return [str(run["state"]["name"] or run["state"]["type"]) for run in self.runs.values()]
