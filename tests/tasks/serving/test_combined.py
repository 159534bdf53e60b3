"""Several places as one target: each in its own way, and what happens when one of them cannot."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tiny_lora import save_tiny_lora

from configs.canonical import short
from configs.environment import Environment
from configs.errors import SlipwayError, require_all
from configs.target import ExternalTarget
from delivery.clients.bundles.adapters import describe, store_at
from delivery.progress import Progress, silent
from tasks.serving.combined import Combined
from tasks.serving.external import External
from tasks.serving.keep_alive import Incident
from tasks.serving.kubernetes.known import remember_members
from tasks.serving.local import environment_folder
from tasks.serving.target import AdapterOrigin, Members, ModelToServe, PartState, readiness

MODEL = ModelToServe("base", Path("/models/base"))


@dataclass
class Place:
    """A member that says what it is asked; `broken` is what it raises instead."""

    mount: str
    replicas: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    broken: str = ""
    comes_and_goes: bool = False
    vllm: str | None = None
    done: list[str] = field(default_factory=list)

    def admin_token(self) -> str:
        return "its own"

    def place(self, adapter: Path, origin: AdapterOrigin | None = None) -> str:
        self._do(f"place {adapter.name}")
        return f"{self.mount}/{adapter.name}"

    def path_on(self, replica: str, path: str) -> str:
        return f"{self.mount}/{Path(path).name}"

    def members(self) -> Members | None:
        self._do("members")
        return Members(self.replicas, self.gateways) if self.comes_and_goes else None

    def prove(self, replica: str, path: str) -> None:
        self._do(f"prove {replica} {path}")

    def before_up(self) -> Iterator[Callable[[], object]]:
        yield lambda: self._do("before up")

    @contextmanager
    def up(self, model: ModelToServe, on_progress: Progress = silent, *, attached: bool = False) -> Iterator[None]:
        self._do("up")
        on_progress(1, 1, "ready")
        try:
            yield
        except BaseException:
            self.done.append("taken down")
            raise

    def down(self) -> tuple[str, ...]:
        self._do("down")
        return (f"vllm at {self.mount}",)

    def state(self) -> tuple[PartState, ...]:
        self._do("state")
        return tuple(PartState("vllm", url, running=True, healthy=True, pid=None, log="") for url in self.replicas)

    def watch(self, model: ModelToServe, *, attached: bool = False) -> "Place":
        return self

    def check(self, now: float) -> tuple[Incident, ...]:
        self._do("check")
        return (Incident("vllm", "back", "it serves again"),)

    def evaluates_on(self, model_name: str) -> str | None:
        self._do("evaluate")
        return self.vllm

    def summary(self) -> str:
        return self.mount

    def _do(self, what: str) -> None:
        if self.broken:
            raise SlipwayError(self.broken, cure="mend it")
        self.done.append(what)


def combined(home: Path, changing: str | None = None, **parts: Place | External) -> Combined:
    return Combined(Environment(), parts, changing, home)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Place, Place, Combined]:
    one, other = Place("/a", ("http://1", "http://2"), ("http://g",)), Place("/b", ("http://3",))
    return one, other, combined(tmp_path, one=one, other=other)


def test_each_replica_is_told_the_path_of_its_own_machine(two: tuple[Place, Place, Combined]) -> None:
    one, other, both = two
    assert (both.replicas, both.gateways) == (("http://1", "http://2", "http://3"), ("http://g",))
    assert both.members() is None
    path = f"{both.home}/adapters/d1"
    assert [both.path_on(url, path) for url in both.replicas] == ["/a/d1", "/a/d1", "/b/d1"]
    assert both.path_on("http://named-by-hand", path) == path
    both.prove("http://3", path)
    assert (one.done, other.done) == ([], ["prove http://3 /b/d1"])


def test_replicas_that_come_and_go_belong_to_whoever_has_such(tmp_path: Path) -> None:
    pods, rack = Place("/p", ("http://p1",), comes_and_goes=True), Place("/r", ("http://r",), ("http://g",))
    both = combined(tmp_path, "pods", rack=rack, pods=pods)
    assert both.members() == Members(("http://r", "http://p1"), ("http://g",))
    assert both.path_on("http://p2-is-new", "/x/d1") == "/p/d1"
    pods.broken = "the API server says 403"
    assert both.members() == Members(("http://r",), ("http://g",))
    remember_members(environment_folder(both.environment, tmp_path), Members(("http://p0",), ()))
    assert both.replicas == ("http://r", "http://p0")


def test_a_member_that_cannot_place_an_adapter_is_named_and_so_are_all_others(tmp_path: Path) -> None:
    source = save_tiny_lora(tmp_path / "lora")
    named = describe(source)
    folder = store_at(source, named, tmp_path / "elsewhere" / short(named.digest))
    one, other, third = Place("/a", ("http://1",)), Place("/b", ()), Place("/c", ())
    both = combined(tmp_path, one=one, other=other, third=third)
    path = both.place(folder)
    assert path == str(tmp_path / "adapters" / folder.name)
    assert describe(Path(path)).digest == named.digest
    assert one.done == other.done == [f"place {folder.name}"]
    one.broken, third.broken = "no space", "read-only"
    with pytest.raises(SlipwayError) as told:
        both.place(folder)
    assert [problem.what for problem in told.value.problems] == ["one: no space", "third: read-only"]


def test_a_member_that_does_not_start_takes_down_what_was_started_for_it(two: tuple[Place, Place, Combined]) -> None:
    one, other, both = two
    other.broken = "no GPU"
    with pytest.raises(SlipwayError, match="other: no GPU"), both.up(MODEL):
        pass
    assert one.done == ["up", "taken down"]


def test_a_failure_after_the_start_reaches_every_member(two: tuple[Place, Place, Combined]) -> None:
    one, other, both = two
    with pytest.raises(SlipwayError, match="the ledger"), both.up(MODEL):
        raise SlipwayError("the ledger is away")
    assert one.done == other.done == ["up", "taken down"]


def test_what_others_run_may_be_away_at_the_start_unless_users_come_in_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ADMIN_TOKEN", "a-token-for-tests-of-32-characters-and-more")
    nobody = "http://127.0.0.1:9"
    said = ExternalTarget.model_validate(
        {"kind": "external", "replicas": [nobody], "gateways": [], "adapters_on_replicas": "/mnt"}
    )
    here, rack, heard = Place("/a", ("http://1",), ("http://g",)), External(said, tmp_path), list[str]()
    with combined(tmp_path, rack=rack, here=here).up(MODEL, lambda done, total, text: heard.append(text)):
        assert here.done == ["up"]
    assert any("rack: none of the 1 vllm of this target can be used" in text for text in heard)
    here.gateways = ()
    rack = External(said.model_copy(update={"gateways": ("http://127.0.0.1:10",)}), tmp_path)
    with pytest.raises(SlipwayError, match="rack: none of the 1"), combined(tmp_path, rack=rack, here=here).up(MODEL):
        pass
    assert here.done == ["up", "up", "taken down"]


def test_one_member_that_cannot_be_asked_hides_no_other(two: tuple[Place, Place, Combined]) -> None:
    one, other, both = two
    one.broken = "the engine is away"
    found = both.state()
    assert readiness(found).splitlines() == [
        "one 0 of 1 ready, vllm 1 of 1 ready",
        "  one one is not ready: the engine is away",
    ]
    with pytest.raises(SlipwayError, match="one: the engine is away"):
        both.down()
    assert other.done == ["state", "down"]
    one.broken = ""
    assert both.down() == ("vllm at /a", "vllm at /b")


def test_each_member_is_looked_after_and_one_that_fails_is_told_of_once(two: tuple[Place, Place, Combined]) -> None:
    one, _, both = two
    watcher = both.watch(MODEL)
    assert [event.text for event in watcher.check(0)] == ["one: it serves again", "other: it serves again"]
    one.broken = "it is away"
    assert [event.text for event in watcher.check(1)] == ["one: it is away", "other: it serves again"]
    assert [event.text for event in watcher.check(2)] == ["other: it serves again"]
    one.broken = ""
    assert [event.kind for event in watcher.check(3)] == ["back"] * 3


def test_builds_evaluate_on_the_first_member_that_can(two: tuple[Place, Place, Combined]) -> None:
    one, other, both = two
    one.vllm, other.vllm = "http://1", "http://3"
    assert both.evaluates_on("base") == "http://1"
    one.broken = "no replica serves base"
    assert both.evaluates_on("base") == "http://3"
    other.broken = "neither here"
    with pytest.raises(SlipwayError, match="no member serves base") as told:
        both.evaluates_on("base")
    assert len(told.value.problems) == 2


def test_before_the_start_every_member_says_what_it_lacks_and_nobody_has_what_another_has(tmp_path: Path) -> None:
    one = Place("/a", ("http://1",), broken="no vLLM")
    other = Place("/b", ("http://1",), broken="no folder")
    with pytest.raises(SlipwayError) as told:
        require_all("it cannot start", combined(tmp_path, one=one, other=other).before_up())
    assert [problem.what for problem in told.value.problems] == [
        "it belongs to one and to other",
        "one: no vLLM",
        "other: no folder",
    ]
