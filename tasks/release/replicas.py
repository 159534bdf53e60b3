"""vLLM replicas seen and changed in the background: a hanging one must not delay a rollback."""

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field

from configs.errors import SlipwayError
from delivery.clients.vllm import VllmClient
from delivery.release.state import LoadAdapter, ReplicaSeen, UnloadAdapter

WAIT_S = 0.3  # for a listing; one that takes longer counts when it is there
LISTING_STALE_S = 10.0

AdapterChange = LoadAdapter | UnloadAdapter
Report = Callable[[str], None]
"""Called with the error, or with "" when it worked."""


@dataclass
class SiteReplicas:
    """Listings, loads and unloads of all replicas by base URL."""

    client: Callable[[str], VllmClient]
    executor: Executor
    clock: Callable[[], float]
    prove: Callable[[str, str], None] = lambda url, path: None  # the target's: the bytes there, before they are loaded
    path_on: Callable[[str, str], str] = lambda url, path: path  # the target's: what a replica's vLLM is told
    load_errors: list[str] = field(default_factory=list)
    _verified: set[tuple[str, str]] = field(default_factory=set)
    _listings: dict[str, "Future[dict[str, str]]"] = field(default_factory=dict)
    _listed: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict)
    _paths: dict[tuple[str, str], str] = field(default_factory=dict)  # of adapters, as a replica was told
    _jobs: dict[tuple[str, str], tuple["Future[None]", AdapterChange, Report]] = field(default_factory=dict)

    def see(self, urls: Iterable[str]) -> dict[str, ReplicaSeen | None]:
        """What each replica lists, and which of it answered a probe since it was last missing."""
        self._collect_jobs()
        wanted = sorted(set(urls))
        for url in wanted:
            if url not in self._listings:
                self._listings[url] = self.executor.submit(self.client(url).models)
        wait([self._listings[url] for url in wanted], timeout=WAIT_S)
        return {url: self._seen(url) for url in wanted}

    def start(self, action: AdapterChange, report: Report) -> None:
        """Begins a load or an unload unless one of the same name is under way there."""
        place = (action.url, action.name)
        if place in self._jobs:
            return
        job = self._load if isinstance(action, LoadAdapter) else self._unload
        self._jobs[place] = (self.executor.submit(job, action), action, report)

    def finish(self, timeout_s: float) -> None:
        """Waits for what is under way, at most so long."""
        wait([job for job, _, _ in self._jobs.values()], timeout=timeout_s)
        self._collect_jobs()

    def take_error(self) -> str:
        """What went wrong with loading since the last call."""
        errors, self.load_errors = self.load_errors, []
        return "; ".join(errors)

    def _seen(self, url: str) -> ReplicaSeen | None:
        listing = self._listings[url]
        if listing.done():
            del self._listings[url]
            error = listing.exception()
            if error is None:
                names = frozenset(name for name, root in listing.result().items() if self._is_ours(url, name, root))
                self._listed[url] = (self.clock(), names)
                self._verified = {(u, name) for u, name in self._verified if u != url or name in names}
            elif isinstance(error, SlipwayError):
                self._forget(url)
            else:
                raise error
        at, listed = self._listed.get(url, (-math.inf, frozenset[str]()))
        if not -1.0 <= self.clock() - at <= LISTING_STALE_S:
            self._forget(url)
            return None
        return ReplicaSeen(listed=listed, verified=frozenset(name for u, name in self._verified if u == url))

    def _is_ours(self, url: str, name: str, root: str) -> bool:
        """Whether it comes from where we said: another folder under the same name is another adapter."""
        return self._paths.get((url, name), root) == root

    def _forget(self, url: str) -> None:
        self._listed.pop(url, None)
        self._verified = {(u, name) for u, name in self._verified if u != url}

    def _load(self, action: AdapterChange) -> None:
        client = self.client(action.url)
        if isinstance(action, LoadAdapter) and action.path is not None:
            self.prove(action.url, action.path)
            client.load_adapter(action.name, self.path_on(action.url, action.path))
        client.probe(action.name)

    def _unload(self, action: AdapterChange) -> None:
        self.client(action.url).unload_adapter(action.name)

    def _collect_jobs(self) -> None:
        for place, (job, action, report) in list(self._jobs.items()):
            if not job.done():
                continue
            del self._jobs[place]
            self._listings.pop(action.url, None)  # it may have been answered before the job was done
            error = job.exception()
            if error is not None and not isinstance(error, SlipwayError):
                raise error
            report(str(error) if error else "")
            if error is not None:
                self.load_errors.append(str(error))
            elif isinstance(action, LoadAdapter):
                self._verified.add(place)
                if action.path is not None:
                    self._paths[place] = os.path.abspath(self.path_on(action.url, action.path))
