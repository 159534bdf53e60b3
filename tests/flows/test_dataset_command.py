"""`slipway dataset`: what is in a version, what changed, who learned from a row, and erasing it."""

import json
from pathlib import Path

import pytest
from release_fakes import PLAN
from release_states import served
from stub_project import stub_project
from tiny_model import save_tiny_model
from typer.testing import CliRunner

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.canonical import short
from configs.environment import Environment
from configs.errors import SlipwayError
from delivery.build.bundle import Bundle
from delivery.build.dataset import DatasetVersion
from delivery.clients.bundles.adapters import describe
from delivery.clients.bundles.images import write_bundle
from delivery.release.decide import new_state
from delivery.release.state import Commit, Decision
from flows.cli.main import app
from tasks.data.of_project import version_of
from tasks.release.site import open_ledger

NOW = 2_000_000_000.0


class World:
    """A project with rows of two users, a version of them, and a bundle that is live and learned from it."""

    def __init__(self, folder: Path, model: Path):
        rows = [chat(number, f"u{number % 5}") for number in range(30)]
        self.rows = folder / "rows.jsonl"
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = {"name": "rows", "sources": [{"path": str(self.rows)}], "split": {"holdout_share": 0.2}}
        self.model = model
        self.project = stub_project(folder, model=model, training={"max_steps": 3}, dataset=recipe)
        self.folder, self.home = folder / "project", folder / "home"
        self.version: DatasetVersion = version_of(self.project, self.model, self.home)
        write_tiny_lora(folder / "lora", 1)
        made = tiny_bundle("Ask.", describe(folder / "lora"))
        self.bundle = made.model_copy(update={"dataset_version": self.version.digest})
        write_bundle(self.bundle, folder / "lora", self.home)

    def go_live(self) -> None:
        base: Bundle = tiny_bundle("Base.")
        ledger = open_ledger(self.project.environment, self.home)
        name = self.project.environment.name
        ledger.set_base(name, "tutor", served(base), base, "me", NOW)
        ledger.acquire(name, "me", 30, NOW)
        state = new_state("r1", name, "tutor", served(self.bundle), served(base), NOW)
        ledger.begin(state, PLAN, self.bundle, "me", 30, NOW)
        over = state.model_copy(update={"phase": "live", "committed": True})
        actions = (Commit(live=state.candidate, previous=state.stable),)
        ledger.record(Decision(state=over, actions=actions, verdict="pass", reason="ok"), "me", 30, NOW)
        ledger.close()

    def run(self, *words: str, project: bool = False) -> str:
        place = ["--project", str(self.folder)] if project else []
        done = CliRunner().invoke(app, ["dataset", *words, *place, "--home", str(self.home)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout


def chat(number: int, user: str) -> dict[str, object]:
    asked = f"How many stones are {number} stones and {number} stones together?"
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"{number * 2} stones"}]
    return {"messages": turns, "user_id": user}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def world(tmp_path: Path, model: Path) -> World:
    return World(tmp_path, model)


def first_row(world: World) -> str:
    line = (world.version.folder / "train.jsonl").read_text().splitlines()[0]
    return str(json.loads(line)["id"])


def test_versions_are_built_listed_shown_and_compared(world: World) -> None:
    assert f"dataset rows {short(world.version.digest)}" in world.run("build", project=True)
    assert world.run("show").startswith(f"{short(world.version.digest)}  rows ")
    shown = world.run("show", short(world.version.digest))
    for part in ('recipe\n  name: "rows"', "source  rows.jsonl, read as messages", "part    holdout: "):
        assert part in shown
    world.rows.write_text(world.rows.read_text() + json.dumps(chat(77, "u1")) + "\n")
    built = world.run("build", project=True).split()[2].rstrip(":")
    told = world.run("diff", short(world.version.digest), built)
    assert "rows: 1 added, 0 removed, 30 the same" in told


@pytest.mark.live  # mlcroissant's import alone takes seconds
def test_a_version_is_exported_with_a_description(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = world.run("export", short(world.version.digest), "--out", str(out), project=True)
    assert told.strip() == f"{short(world.version.digest)} is written: {out / 'croissant.json'}"
    assert json.loads((out / "croissant.json").read_text())["name"] == "rows"


def test_a_row_leads_to_the_adapter_its_bundle_and_what_is_live_and_back(world: World) -> None:
    adapter = short(world.bundle.adapter.digest) if world.bundle.adapter else ""
    row = first_row(world)
    before = world.run("lineage", "--row", row, project=True)
    assert f"in dataset version {world.version.folder.name} (rows), to train on" in before
    assert f"adapter {adapter} learned from {world.version.folder.name}" in before
    assert "not live" in before
    world.go_live()
    assert "live of tutor in" in world.run("lineage", "--row", row, project=True)
    behind = world.run("lineage", "--bundle", short(world.bundle.digest), project=True)
    assert f"{world.version.manifest.parts['train'].rows} rows of dataset rows" in behind
    assert "train.jsonl" in behind


def test_a_held_out_row_taught_nobody(world: World) -> None:
    line = (world.version.folder / "holdout.jsonl").read_text().splitlines()[0]
    told = world.run("lineage", "--row", json.loads(line)["id"], project=True)
    assert "held out" in told
    assert "no adapter learned from it" in told


def test_an_erasure_names_who_learned_and_what_comes_next(world: World) -> None:
    world.go_live()
    order = ("erase", "--where", "user_id=u3", "--reason", "asked", "--by", "ann")
    told = world.run(*order, "--no-refresh", project=True)
    adapter = short(world.bundle.adapter.digest) if world.bundle.adapter else ""
    assert "erased: 6 rows, by erasure E-" in told
    assert f"adapter {adapter} learned from {world.version.folder.name}" in told
    assert "live of tutor in" in told
    assert f"next: slipway refresh --project {world.folder}" in told
    again = version_of(world.project, world.model, world.home)
    assert again.manifest.rejected == {"erased": 6}
    assert "erased since: " in world.run("lineage", "--bundle", short(world.bundle.digest), project=True)


def test_an_erasure_starts_the_refresh_where_what_is_live_learned_from_the_rows(world: World) -> None:
    world.go_live()
    world.rows.unlink()
    with pytest.raises(SlipwayError, match=r"nothing can be built and released(?s:.)*rows\.jsonl does not exist"):
        world.run("erase", "--where", "user_id=u3", "--reason", "asked", "--by", "ann", project=True)


def test_nobody_is_told_to_refresh_where_nothing_that_is_live_learned(world: World) -> None:
    told = world.run("erase", "--where", "user_id=u3", "--reason", "asked", project=True)
    assert "no live adapter learned from them" in told
    assert "the sources are as they were" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("lineage",), "exactly one of --row, --bundle"),
        (("lineage", "--row", "0123456789abcdef"), "has a row 0123456789abcdef"),
        (("erase", "--reason", "x"), "one of --where, --row, --user is needed"),
        (("erase", "--reason", "x", "--user", "nobody"), "has anything of user 'nobody'"),
        (("erase", "--reason", "x", "--where", "u3"), "is not FIELD=VALUE"),
        (("erase", "--reason", "x", "--where", "user_id=u9"), "fields that rows have: user_id"),
    ],
)
def test_what_is_meant_must_be_said(world: World, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(SlipwayError, match=told):
        world.run(*words, project=True)


def test_a_version_that_is_not_there_is_told_with_those_that_are(world: World) -> None:
    with pytest.raises(SlipwayError, match=f"known versions: {short(world.version.digest)}"):
        world.run("show", "0123456789ab")
    assert Environment().name == world.project.environment.name
