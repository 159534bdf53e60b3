"""A socket in front of the engine's, which can be away as an engine is that restarts."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ENGINE = "/var/run/docker.sock"


class DockerProxy:
    """Listens on `path` until `go_away`; `come_back` listens again."""

    def __init__(self, path: Path):
        self.path = path
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.come_back()

    def come_back(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def go_away(self) -> None:
        """Nobody is let in, and whoever was is cut off."""
        assert self._listener is not None
        self.path.unlink()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(ENGINE)
            self._open |= {client, engine}
            for one, other in ((client, engine), (engine, client)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                to.sendall(piece)
        for one in (source, to):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            self._open.discard(one)


@contextmanager
def docker_proxy(path: Path) -> Iterator[DockerProxy]:
    proxy = DockerProxy(path)
    try:
        yield proxy
    finally:
        if path.exists():
            proxy.go_away()
