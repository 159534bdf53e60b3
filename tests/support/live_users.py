"""Users of a gateway, each a thread with one request at a time, and an exact account of every request.

Half of them keep their connection, half make a new one each time; plain and streamed answers take turns. An answer is
complete only with all its tokens and its end: a missing or a doubled piece is a failure.
"""

import contextlib
import http.client
import json
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PLAIN_TOKENS, STREAM_TOKENS = 16, 64  # of every answer, neither less nor more
PATIENCE_S = 240.0  # two vLLMs share few cores


@dataclass
class Asked:
    """One request. Times are UNIX seconds; `failure` is "" for a complete answer."""

    user: str
    is_streamed: bool
    began_at: float
    ended_at: float = 0.0
    client_port: int = 0
    request_id: str = ""
    variant: str = ""
    pieces: int = 0  # with content
    failure: str = ""


@dataclass
class User:
    """One who asks, with the name of an API key's owner and the key."""

    name: str
    owner: str
    key: str
    keeps_connection: bool
    _kept: http.client.HTTPConnection | None = None

    def ask(self, port: int, number: int) -> Asked:
        """One request to its end, however it ends."""
        asked = Asked(self.name, number % 2 == 1, time.time())
        try:
            connection = self._connection(port)
            asked.client_port = connection.sock.getsockname()[1]
            self._exchange(connection, asked, number)
        except (OSError, http.client.HTTPException) as error:
            asked.failure = f"connection: {error!r}"
        if asked.failure or not self.keeps_connection:
            self.close()
        asked.ended_at = time.time()
        return asked

    def close(self) -> None:
        """Gives the connection up."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    def _connection(self, port: int) -> http.client.HTTPConnection:
        """The kept one, unless the gateway has closed it: that shows before anything is sent."""
        if (
            self._kept is not None
            and self._kept.sock is not None
            and not select.select([self._kept.sock], [], [], 0)[0]
        ):
            return self._kept
        self.close()
        self._kept = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._kept.connect()
        return self._kept

    def _exchange(self, connection: http.client.HTTPConnection, asked: Asked, number: int) -> None:
        body: dict[str, Any] = {
            "model": "tutor",
            "messages": [{"role": "user", "content": f"Tell story {number}."}],
            "max_tokens": STREAM_TOKENS if asked.is_streamed else PLAIN_TOKENS,
            "ignore_eos": True,
        }
        if asked.is_streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = {"Authorization": f"Bearer {self.key}", "x-slipway-user": self.name}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        asked.request_id = response.headers.get("x-request-id", "")
        asked.variant = response.headers.get("x-slipway-variant", "")
        if response.status != 200:
            asked.failure = f"status {response.status}: {response.read()[:300]!r}"
        elif asked.is_streamed:
            _read_stream(response, asked)
        else:
            _read_plain(response, asked)


def _read_plain(response: http.client.HTTPResponse, asked: Asked) -> None:
    answer = json.loads(response.read())
    choice, found = answer["choices"][0], answer["usage"]["completion_tokens"]
    asked.pieces = 1
    if choice["finish_reason"] != "length" or found != PLAIN_TOKENS or not choice["message"]["content"]:
        asked.failure = f"incomplete: {choice['finish_reason']}, {found} tokens"


def _read_stream(response: http.client.HTTPResponse, asked: Asked) -> None:
    finished, found, is_done = [], [], False
    for line in response:
        text = line.strip().removeprefix(b"data: ")
        if not text:
            continue
        assert not is_done, "nothing comes after [DONE]"
        is_done = text == b"[DONE]"
        frame = {} if is_done else json.loads(text)
        if "error" in frame:
            asked.failure = f"error frame: {frame['error']['code']} of the {frame['error']['source']}"
        found += [frame["usage"]["completion_tokens"]] if frame.get("usage") else []
        for choice in frame.get("choices", ()):
            asked.pieces += bool(choice["delta"].get("content"))
            finished += [choice["finish_reason"]] if choice["finish_reason"] else []
    if not asked.failure and (finished != ["length"] or found != [STREAM_TOKENS] or not is_done or not asked.pieces):
        asked.failure = f"incomplete: finished {finished}, tokens {found}, done {is_done}, {asked.pieces} pieces"


@dataclass
class Crowd:
    """All that has been asked and has ended; more while the crowd asks on."""

    asked: list[Asked] = field(default_factory=list)

    @property
    def failed(self) -> list[Asked]:
        """Those without a complete answer."""
        return [one for one in self.asked if one.failure]


@contextlib.contextmanager
def crowd(users: list[User], port: int) -> Iterator[Crowd]:
    """They ask until the context ends, and wait for their last answers."""
    seen, stop, broken = Crowd(), threading.Event(), []

    def live(user: User, first: int) -> None:
        number = first
        try:
            while not stop.is_set():
                seen.asked.append(user.ask(port, number))
                number += 1
        except BaseException as error:  # a broken test must not look like a quiet user
            broken.append(error)
            raise
        finally:
            user.close()

    threads = [threading.Thread(target=live, args=(user, place)) for place, user in enumerate(users)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not broken, broken
    assert not any(thread.is_alive() for thread in threads), "a user waits for ever"
