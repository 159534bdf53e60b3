"""A local S3 server for tests, with a bucket of one's own; its logins are checked once it is told to."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import s3fs

from configs.store import StoreConfig

BUCKETS = itertools.count(1)
LOGIN = {"AWS_ACCESS_KEY_ID": "a-key-of-tests", "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests"}


@dataclass
class S3Server:
    """`url` is its endpoint."""

    url: str

    def bucket(self) -> StoreConfig:
        """A store in a bucket of its own."""
        name = f"bucket-{next(BUCKETS)}"
        s3fs.S3FileSystem(endpoint_url=self.url, use_listings_cache=False).mkdir(name)
        return StoreConfig(url=f"s3://{name}/team", endpoint_url=self.url, timeout_s=60, tries=1)

    @contextmanager
    def checking_logins(self) -> Iterator[None]:
        """Inside, nobody's key is known."""
        self._after_requests("0")
        try:
            yield
        finally:
            self._after_requests("inf")

    def _after_requests(self, number: str) -> None:
        answer = httpx.post(f"{self.url}/moto-api/reset-auth", content=number, trust_env=False)
        assert answer.is_success, answer.text


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """In a thread of this process, whose environment has a login inside."""
    from moto.server import ThreadedMotoServer

    before = {name: os.environ.get(name) for name in LOGIN}
    os.environ.update(LOGIN)
    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    found, port = server.get_host_and_port()
    try:
        yield S3Server(f"http://{found}:{port}")
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
