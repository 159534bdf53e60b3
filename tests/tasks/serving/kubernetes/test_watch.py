"""What a watch over pods tells: who joined, left, forgot, or cannot be asked - and that all else is quiet."""

from pathlib import Path

from configs.errors import SlipwayError
from tasks.serving.kubernetes.known import known_members, remember_members
from tasks.serving.kubernetes.watch import ClusterWatch, Has
from tasks.serving.target import Members, PartState

V1, V2, G1 = "http://v1", "http://v2", "http://g1"
TABLE = frozenset({"its routing table"})


class There:
    """What the cluster and its pods answer."""

    def __init__(self) -> None:
        self.members: Members | SlipwayError = Members((V1,), (G1,))
        self.has: dict[str, Has] = {V1: frozenset({"base"}), V2: frozenset({"base"}), G1: TABLE}
        self.parts: tuple[PartState, ...] = ()
        self.watch = ClusterWatch(self._members, self._ask, lambda: self.parts)

    def _members(self) -> Members:
        if isinstance(self.members, SlipwayError):
            raise self.members
        return self.members

    def _ask(self, members: Members) -> dict[str, Has]:
        return {url: self.has[url] for url in (*members.replicas, *members.gateways)}

    def look(self) -> list[tuple[str, str]]:
        return [(event.name, event.kind) for event in self.watch.check(0.0)]


def test_nothing_is_said_while_nothing_changes() -> None:
    there = There()
    assert [there.look() for _ in range(3)] == [[], [], []]


def test_one_that_joins_or_leaves_has_the_live_bundle_served_anew() -> None:
    there = There()
    there.look()
    there.members = Members((V1, V2), (G1,))
    assert there.look() == [("vllm", "back")]
    there.members = Members((V2,), (G1,))
    assert there.look() == [("vllm", "back")]


def test_one_that_is_still_wanted_and_not_ready_is_away_with_its_reason() -> None:
    there = There()
    there.look()
    there.members = Members((), (G1,))
    there.parts = (PartState("vllm", V1, running=False, healthy=False, pid=None, log="", reason="OOMKilled"),)
    [away, back] = there.watch.check(0.0)
    assert (away.kind, back.kind) == ("away", "back")
    assert "OOMKilled" in away.text
    assert there.look() == []


def test_one_that_forgot_or_answers_again_is_served_anew() -> None:
    there = There()
    there.has[V1] = frozenset({"base", "tutor-1"})
    there.look()
    there.has[V1] = frozenset({"base"})
    assert there.look() == [("vllm", "back")]
    there.has[G1] = SlipwayError("no answer")
    assert there.look() == [("gateway", "away")]
    there.has[G1] = TABLE
    assert there.look() == [("gateway", "back")]


def test_a_cluster_that_cannot_be_asked_is_told_once_and_its_return_too() -> None:
    there = There()
    there.look()
    there.members = SlipwayError("the API server did not list pods")
    assert there.look() == [("cluster", "away")]
    assert there.look() == []
    there.members = Members((V1,), (G1,))
    assert there.look() == [("cluster", "back")]


def test_who_was_there_is_known_to_the_next_process_and_a_broken_file_is_nobody(tmp_path: Path) -> None:
    assert known_members(tmp_path) is None
    remember_members(tmp_path, Members((V1,), (G1,)))
    assert known_members(tmp_path) == Members((V1,), (G1,))
    for text in ("", "[]", "{}", '{"replicas": 1, "gateways": []}'):
        (tmp_path / "members.json").write_text(text)
        assert known_members(tmp_path) is None
