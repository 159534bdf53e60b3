"""An OCI registry in this process that can be told to lie, to stall, to break off, and to be full."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "ada", "lovelace"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Fault:
    """What happens instead of the right answer."""

    status: int = 0  # an answer with this status and `body`
    body: bytes = b""
    flip: bool = False  # the last byte of the content is another one
    cut_at: int | None = None  # the connection ends after so many bytes of the content
    claim_less: int = 0  # so many bytes are left out, and the length says so
    add: bytes = b""  # more content than there is
    instead: bytes | None = None  # other content, under its own digest
    stall: bool = False  # no answer at all, until the registry ends


@dataclass
class StubRegistry:
    """Content by repository, what was asked, and `fault`: called with method and path, it says what goes wrong."""

    address: str = ""
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    manifests: dict[str, dict[str, tuple[str, bytes]]] = field(default_factory=dict)  # by digest or tag
    asked: list[tuple[str, str]] = field(default_factory=list)
    received_bytes: int = 0
    fault: Callable[[str, str], Fault | None] = lambda method, path: None
    login: str = ""  # basic, bearer
    knows_referrers: bool = False
    deletes: bool = True
    page: int = 2  # tags in one answer
    ended: threading.Event = field(default_factory=threading.Event)
    uploads: int = 0

    def count(self, method: str, pattern: str) -> int:
        return sum(m == method and re.search(pattern, path) is not None for m, path in self.asked)


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: StubRegistry

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def _serve(self) -> None:
        registry = self.registry
        registry.asked.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = registry.fault(self.command, self.path)
        if fault is not None and fault.stall:
            registry.ended.wait(60)
            self.close_connection = True
        elif fault is not None and fault.status:
            self._answer(fault.status, fault.body)
        elif self._may():
            self._route(urlsplit(self.path), body, fault or Fault())

    def _may(self) -> bool:
        registry, sent = self.registry, self.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if not registry.login or (registry.login == "bearer" and sent == "Bearer token-of-ada"):
            return True
        if self.path.startswith("/token"):
            granted = sent == basic
            self._answer(200 if granted else 401, b'{"token": "token-of-ada"}' if granted else b"{}")
            return False
        if registry.login == "basic" and sent == basic:
            return True
        challenge = 'Basic realm="stub"'
        if registry.login == "bearer":
            challenge = f'Bearer realm="http://{registry.address}/token",service="stub",scope="repository:x:pull,push"'
        self._answer(401, b'{"errors": []}', {"Www-Authenticate": challenge})
        return False

    def _route(self, url: Any, body: bytes, fault: Fault) -> None:
        registry, query = self.registry, {k: v[0] for k, v in parse_qs(url.query).items()}
        if url.path == "/v2/":
            return self._answer(200, b"{}")
        found = re.fullmatch(r"/v2/(.+)/(blobs/uploads|blobs|manifests|referrers|tags)/(.*)", url.path)
        assert found is not None, url.path
        repository, kind, name = found.groups()
        if kind == "tags":
            return self._tags(repository, int(query.get("n", 1000)), query.get("last", ""))
        blobs = registry.blobs.setdefault(repository, {})
        manifests = registry.manifests.setdefault(repository, {})
        if kind == "blobs/uploads":
            return self._upload(repository, blobs, query, body)
        if kind == "referrers":
            return self._referrers(manifests, name)
        if self.command == "DELETE":
            return self._delete(manifests, name)
        if self.command == "PUT":
            registry.received_bytes += len(body)
            has_subject = "subject" in json.loads(body)
            for key in (name, digest_of(body)):
                manifests[key] = (self.headers["Content-Type"], body)
            headers = {"Docker-Content-Digest": digest_of(body)}
            return self._answer(
                201, headers=headers | ({"OCI-Subject": "x"} if has_subject and registry.knows_referrers else {})
            )
        if kind == "manifests":
            media_type, content = manifests.get(name, ("", None))
        else:
            media_type, content = "application/octet-stream", blobs.get(name)
        return self._content(media_type, content, fault)

    def _upload(self, repository: str, blobs: dict[str, bytes], query: dict[str, str], body: bytes) -> None:
        registry = self.registry
        if self.command == "POST":
            source = registry.blobs.get(query.get("from", ""), {})
            if query.get("mount") in source:
                blobs[query["mount"]] = source[query["mount"]]
                return self._answer(201, headers={"Location": f"/v2/{repository}/blobs/{query['mount']}"})
            registry.uploads += 1
            return self._answer(202, headers={"Location": f"/v2/{repository}/blobs/uploads/{registry.uploads}?state=a"})
        if self.command == "PUT":
            registry.received_bytes += len(body)
            if digest_of(body) != query["digest"]:
                return self._answer(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            blobs[query["digest"]] = body
        return self._answer(201)

    def _delete(self, manifests: dict[str, tuple[str, bytes]], digest: str) -> None:
        if not self.registry.deletes:
            return self._answer(405, b'{"errors": [{"code": "UNSUPPORTED", "message": "not allowed"}]}')
        gone = [key for key, (_, content) in manifests.items() if digest_of(content) == digest]
        for key in gone:
            del manifests[key]
        return self._answer(202 if gone else 404)

    def _tags(self, repository: str, most: int, last: str) -> None:
        manifests = self.registry.manifests.get(repository)
        if manifests is None:
            return self._answer(404, b'{"errors": [{"code": "NAME_UNKNOWN"}]}')
        most = min(most, self.registry.page)
        tags = sorted(name for name in manifests if not name.startswith("sha256:") and name > last)
        more = f'</v2/{repository}/tags/list?n={most}&last={tags[most - 1]}>; rel="next"' if len(tags) > most else ""
        body = json.dumps({"name": repository, "tags": tags[:most] or None}).encode()
        return self._answer(200, body, {"Link": more} if more else {})

    def _referrers(self, manifests: dict[str, tuple[str, bytes]], subject: str) -> None:
        if not self.registry.knows_referrers:
            return self._answer(404, b'{"errors": []}')
        found = []
        for digest, (media_type, content) in manifests.items():
            value = json.loads(content)
            if digest.startswith("sha256:") and value.get("subject", {}).get("digest") == subject:
                found.append(
                    {
                        "mediaType": media_type,
                        "digest": digest,
                        "size": len(content),
                        "artifactType": value["artifactType"],
                    }
                )
        return self._answer(
            200,
            json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}).encode(),
            {"Content-Type": INDEX},
        )

    def _content(self, media_type: str, content: bytes | None, fault: Fault) -> None:
        if content is None:
            return self._answer(404, b'{"errors": [{"code": "UNKNOWN"}]}')
        digest, whole = digest_of(content), content
        if fault.instead is not None:
            content = fault.instead
        if fault.flip:
            content = content[:-1] + bytes([content[-1] ^ 1])
        content = content[: len(content) - fault.claim_less] + fault.add
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        status = 200
        if wanted:
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
            content, status = content[start:], 206
        if fault.cut_at is None:
            return self._answer(status, content, headers)
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content[: fault.cut_at])
        self.wfile.flush()
        self.close_connection = True
        return None

    def _answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def stub_registry() -> Iterator[StubRegistry]:
    registry = StubRegistry()
    handler = type("ThisHandler", (Handler,), {"registry": registry})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    registry.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        registry.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
