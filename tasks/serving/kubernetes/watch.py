"""Notices pods that came, went, or forgot what they had. The cluster restarts them; serving them anew is ours."""

from collections.abc import Callable, Iterator

from configs.errors import SlipwayError
from tasks.serving.asked import why
from tasks.serving.keep_alive import Incident
from tasks.serving.target import Members, PartState

Has = frozenset[str] | SlipwayError


class ClusterWatch:
    """`ask` says what each member has, `state` why one that is no member any more is not ready."""

    def __init__(
        self,
        members: Callable[[], Members | None],
        ask: Callable[[Members], dict[str, Has]],
        state: Callable[[], tuple[PartState, ...]],
    ):
        self._members = members
        self._ask = ask
        self._state = state
        self._known: dict[str, tuple[str, frozenset[str] | None]] = {}  # by URL its kind, and what it had
        self._looked = False
        self._away = ""  # what was said of the API server

    def check(self, now: float) -> tuple[Incident, ...]:
        """Asks once. While the API server is away nothing is known of who comes and goes, and all else goes on."""
        try:
            members = self._members()
        except SlipwayError as error:
            said, self._away = self._away, error.what
            return () if said else (Incident("cluster", "away", str(error)),)
        answered = () if not self._away else (Incident("cluster", "back", "the API server answers again"),)
        self._away = ""
        if members is None:
            return answered
        found = self._ask(members)
        events = [*answered, *self._left(members)]
        for url, answer in found.items():
            events += self._changed("vllm" if url in members.replicas else "gateway", url, answer)
        self._looked = True
        return tuple(events)

    def _left(self, members: Members) -> Iterator[Incident]:
        """One that is still wanted there is away; of one that was deleted, others take its place in the table."""
        gone = {
            url: kind for url, (kind, _) in self._known.items() if url not in (*members.replicas, *members.gateways)
        }
        if not gone:
            return
        reasons = {part.url: part.reason for part in self._state()}
        for url, kind in gone.items():
            del self._known[url]
            if url in reasons:
                yield Incident("vllm" if kind == "vllm" else "gateway", "away", f"{kind} {url}: {reasons[url]}")
            yield Incident(kind, "back", f"{kind} {url} has left: the others serve without it")

    def _changed(self, kind: str, url: str, answer: Has) -> Iterator[Incident]:
        has = None if isinstance(answer, SlipwayError) else answer
        is_new = url not in self._known
        had = self._known.get(url, (kind, has))[1]
        self._known[url] = (kind, has)
        if has is None and (had is not None or is_new):
            yield Incident(kind, "away", f"{kind} {url}: {why(answer)}")
        elif has is not None and is_new and self._looked:
            yield Incident(kind, "back", f"{kind} {url} has joined")
        elif has is not None and had is None:
            yield Incident(kind, "back", f"{kind} {url} answers again")
        elif has is not None and had is not None and (lost := sorted(had - has)):
            yield Incident(kind, "back", f"{kind} {url} has lost {', '.join(lost)}")
