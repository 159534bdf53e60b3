"""Who belongs to an environment whose replicas and gateways come and go: asked in the background, tick by tick."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field

from configs.errors import SlipwayError
from delivery.clients.gateway import GatewayClient
from tasks.serving.target import Members

WAIT_S = 0.3  # for whoever knows; an answer that takes longer counts when it is there


@dataclass
class Membership:
    """`ask` is the target's; it may hang. What it said last counts while it says nothing."""

    ask: Callable[[], Members | None]
    executor: Executor
    trouble: str = ""  # why the last answer was none
    _last: Members | None = None
    _asked: "Future[Members | None] | None" = None
    _never_changes: bool = field(default=False)

    def see(self) -> Members | None:
        """Who belongs to it; None where nobody ever comes or goes, and before the first answer."""
        if self._never_changes:
            return None
        if self._asked is None:
            self._asked = self.executor.submit(self.ask)
        wait([self._asked], timeout=WAIT_S)
        if self._asked.done():
            asked, self._asked = self._asked, None
            self._take(asked)
        return self._last

    def _take(self, asked: "Future[Members | None]") -> None:
        try:
            found = asked.result()
        except SlipwayError as error:
            self.trouble = str(error)
            return
        self.trouble = ""
        if found is None:
            self._never_changes = True
        else:
            self._last = found


class GatewayClients(Mapping[str, GatewayClient]):
    """Clients by admin URL. Whoever has left stays reachable by name for those who still hold it."""

    def __init__(self, open_one: Callable[[str], GatewayClient], urls: tuple[str, ...]):
        self._open = open_one
        self._made: dict[str, GatewayClient] = {}
        self._urls: tuple[str, ...] = ()
        self.follow(urls)

    def follow(self, urls: tuple[str, ...]) -> None:
        """These are the gateways from now on."""
        for url in urls:
            if url not in self._made:
                self._made[url] = self._open(url)
        self._urls = urls

    def close(self) -> None:
        """Closes all that were ever made."""
        for client in self._made.values():
            client.close()

    def __getitem__(self, url: str) -> GatewayClient:
        return self._made[url]

    def __contains__(self, url: object) -> bool:
        return url in self._urls

    def __iter__(self) -> Iterator[str]:
        return iter(self._urls)

    def __len__(self) -> int:
        return len(self._urls)
