"""Receivers of our own that messages are really sent to: a web server and a mail server, both also of no use."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from own_certificate import own_certificate

from delivery.clients.processes.ports import free_ports


class Hooks:
    """A web server that keeps what it is sent. `status` and `says` are its answer; while it `hangs` there is none."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []  # path, headers in lower case, body
        self.status, self.says, self.headers = 200, "ok", {}
        self.hangs = False
        self.asked = threading.Event()
        self.goes_on = threading.Event()
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                hooks.asked.set()
                if hooks.hangs:
                    hooks.goes_on.wait(60)
                    return
                heads = {name.lower(): value for name, value in self.headers.items()}
                if hooks.status < 300:
                    hooks.got.append((self.path, heads, body))
                self.send_response(hooks.status)
                for name, value in hooks.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(hooks.says.replace("ECHO", self.path).encode())

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def keys(self) -> list[str]:
        """Of the messages that a generic webhook took, in their order."""
        return [body["key"] for _, _, body in self.got]

    def __enter__(self) -> "Hooks":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.goes_on.set()
        self.server.shutdown()
        self.server.server_close()


class Mails:
    """What a mail server took, and who had logged in."""

    def __init__(self, port: int, tls: ssl.SSLContext | None):
        self.port = port
        self.trusted = tls  # a client's context that trusts the server
        self.got: list[tuple[list[str], EmailMessage]] = []
        self.users: list[bytes] = []
        self.refuses = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        from email import message_from_bytes, policy

        if self.refuses:
            return self.refuses
        made = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(made, EmailMessage)
        self.got.append((list(envelope.rcpt_tos), made))
        return "250 taken"

    def log_in(self, server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        ok = isinstance(given, LoginPassword) and (given.login, given.password) == (b"slipway", b"a-password")
        self.users += [given.login] if ok else []
        return AuthResult(success=ok, handled=False)


@contextmanager
def mails(folder: Path, *, security: str = "starttls", login: bool = True) -> Iterator[Mails]:
    """A mail server whose certificate is its own authority."""
    serves, trusts = _tls(folder)
    (port,) = free_ports(1)
    kept = Mails(port, trusts)
    more: dict[str, Any] = {}
    if login:
        more |= {"auth_required": True, "authenticator": kept.log_in, "auth_require_tls": security == "starttls"}
    if security == "starttls":
        more |= {"tls_context": serves, "require_starttls": True}
    context = serves if security == "tls" else None
    controller = Controller(kept, "127.0.0.1", port, ssl_context=context, server_kwargs=more)
    controller.start()
    try:
        yield kept
    finally:
        controller.stop()


def _tls(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    certificate, private = own_certificate(folder)
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(certificate, private)
    return serves, ssl.create_default_context(cafile=str(certificate))
