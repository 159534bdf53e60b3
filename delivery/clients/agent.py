"""The agent beside a vLLM, as whoever loads adapters uses it: what are the bytes there, and here are better ones."""

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

from configs.errors import SlipwayError
from delivery.clients.bundles.adapters import FILES

CHUNK_BYTES = 1 << 20
SLOW_S = 120.0


class AgentError(SlipwayError):
    """The agent refused, found other bytes than asked for, or could not be reached."""


class AgentClient:
    """One agent at its base URL. Every method raises AgentError."""

    def __init__(self, url: str, token: str, timeout_s: float = 5.0, slow_timeout_s: float = SLOW_S):
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(slow_timeout_s, connect=timeout_s),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def digest(self, name: str) -> str | None:
        """Of the bytes that its vLLM sees under this name, hashed now; None when nothing is there."""
        answer = self._send("GET", name)
        return None if answer.status_code == httpx.codes.NOT_FOUND else str(_parsed(answer).get("digest"))

    def send(self, name: str, folder: Path) -> str:
        """Brings an adapter there; the digest of what has arrived."""
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                for file in FILES:
                    tar.add(folder / file, arcname=file, recursive=False)
            size = packed.tell()
            packed.seek(0)
            answer = self._send("PUT", name, content=_chunks(packed), headers={"Content-Length": str(size)})
        return str(_parsed(answer).get("digest"))

    def pull(self, name: str, bundle: str, as_of: float) -> str:
        """Has it pull and verify a bundle by its digest in the registry; the digest of the adapter that it kept.

        Its signatures have to count at `as_of`, in UNIX seconds.
        """
        return str(_parsed(self._send("POST", name, json={"digest": bundle, "as_of": as_of})).get("digest"))

    def refused(self) -> dict[str, str]:
        """By adapter, why its agent refused it lately."""
        where = f"GET {self._url}/refused"
        try:
            answer = self._http.get("/refused")
        except httpx.HTTPError as error:
            what = f"the agent beside vLLM cannot be reached: {error or type(error).__name__}"
            raise AgentError(what, where=where) from error
        return {name: str(why) for name, why in _parsed(answer).items()} if answer.is_success else {}

    def _send(self, method: str, name: str, **content: Any) -> httpx.Response:
        where = f"{method} {self._url}/adapters/{name}"
        try:
            answer = self._http.request(method, f"/adapters/{name}", **content)
        except httpx.HTTPError as error:
            what = f"the agent beside vLLM cannot be reached: {error or type(error).__name__}"
            raise AgentError(what, where=where, cure="see whether its container runs: slipway status") from error
        if answer.is_success or (method == "GET" and answer.status_code == httpx.codes.NOT_FOUND):
            return answer
        said = _parsed(answer).get("error") or answer.text[:300]
        raise AgentError(f"the agent answers {answer.status_code}: {said}", where=where)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _parsed(answer: httpx.Response) -> dict[str, Any]:
    try:
        data = answer.json()
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
