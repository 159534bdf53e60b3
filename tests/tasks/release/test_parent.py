"""`continue_from`: which adapter that is, what refuses it, and who has learned from its rows afterwards."""

import json
from dataclasses import replace

import pytest
from places import ROOT
from release_fakes import PLAN, base_bundle, lora_bundle
from release_states import served

from configs.canonical import short
from configs.dataset import DatasetRecipe
from configs.errors import SlipwayError
from configs.project import load_project
from configs.training import LoraSettings, TrainingConfig
from delivery.clients.bundles.images import unpack_adapter, write_bundle
from delivery.release.decide import new_state
from delivery.release.state import Commit, Decision
from tasks.data.dataset import build_dataset
from tasks.data.erase import erase
from tasks.release.lineage import bundle_rows, row_lineage
from tasks.release.parent import find_parent
from tasks.release.site import open_ledger

CONFIG = TrainingConfig(lora=LoraSettings(rank=8, alpha=16, target_modules=("q_proj",)), continue_from="live")
NOW = 2_000_000_000.0


class Place:
    """A state folder with dataset versions, bundles that say they were trained on them, and what is live."""

    def __init__(self, folder, tokenizer_folder):
        self.folder, self.home, self.tokenizer = folder, folder / "home", tokenizer_folder
        self.project = replace(load_project(ROOT / "configs" / "tutor"), training=CONFIG)
        self.made = 0

    def version(self, rows, **recipe):
        text = "".join(
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": f"What is {n} and 1?"},
                        {"role": "assistant", "content": f"What comes after {n}?"},
                    ],
                    "user": f"u{n}",
                }
            )
            + "\n"
            for n in range(rows)
        )
        (self.folder / "rows.jsonl").write_text(text)
        given = {"name": "sums", "sources": [{"path": "rows.jsonl"}], "split": {"holdout_share": 0.3}} | recipe
        return build_dataset(DatasetRecipe.model_validate(given), self.folder, self.tokenizer, "Be brief.", self.home)

    def bundle(self, version, parent=None, **changes):
        """One of another adapter each time."""
        self.made += 1
        bare = lora_bundle(self.home, seed=self.made)
        training = CONFIG.model_copy(update={"continue_from": parent.digest if parent else None} | changes)
        given = {"dataset_version": version.digest, "training": training.model_dump(mode="json")}
        made = bare.model_copy(update=given)
        write_bundle(made, self.home / f"made-{self.made}", self.home)
        return made

    def release(self, bundle):
        base, ledger = base_bundle(), open_ledger(self.project.environment, self.home)
        route, name = self.project.route, self.project.environment.name
        ledger.set_base(name, route, served(base), base, "me", NOW)
        ledger.acquire(name, "me", 30, NOW)
        live = ledger.route(name, route).live
        state = new_state(f"r{self.made}", name, route, served(bundle), live, NOW)
        ledger.begin(state, PLAN, bundle, "me", 30, NOW)
        over = state.model_copy(update={"phase": "live", "committed": True})
        actions = (Commit(live=state.candidate, previous=state.stable),)
        ledger.record(Decision(state=over, actions=actions, verdict="pass", reason="ok"), "me", 30, NOW)
        ledger.close()

    def find(self, version, said=None, **changes):
        project = replace(self.project, training=CONFIG.model_copy(update=changes))
        revision = base_bundle().base_revision
        told = [] if said is None else said
        return find_parent(project, version, revision, self.home, lambda done, total, text: told.append(text))


@pytest.fixture
def place(tmp_path, tokenizer_folder):
    return Place(tmp_path, tokenizer_folder)


def test_without_continue_from_and_before_the_first_release_training_begins_with_the_base_model(place):
    version, said = place.version(20), []
    assert place.find(version, said, continue_from=None) is None
    assert said == []
    assert place.find(version, said) is None
    assert said == ["nothing live to continue from: training begins with the base model"]


def test_the_live_adapter_goes_on_with_a_new_version_and_the_same_build_again_is_the_same_training(place):
    first, second = place.version(20), place.version(30)
    old = place.bundle(first)
    place.release(old)
    found = place.find(second)
    assert (found.bundle, found.adapter) == (old.digest, old.adapter.digest)
    assert found.folder == unpack_adapter(old, place.home)
    new = place.bundle(second, parent=old)
    place.release(new)
    assert place.find(second) == found  # not from `new`, which has learned from this very version
    assert place.find(first).bundle == new.digest
    assert place.find(place.version(40)).bundle == new.digest


def test_another_lora_or_base_model_is_refused_with_all_differences(place):
    place.release(place.bundle(place.version(20)))
    other = LoraSettings(rank=4, alpha=4)
    with pytest.raises(SlipwayError, match="training cannot go on from bundle") as caught:
        place.find(place.version(30), lora=other)
    wheres = [problem.where.rpartition(".")[2] for problem in caught.value.problems]
    assert wheres == ["rank", "alpha", "target_modules"]


def test_the_base_model_has_no_adapter_to_go_on_from(place):
    write_bundle(base_bundle(), None, place.home)
    with pytest.raises(SlipwayError, match=r"training cannot go on from bundle \w+ \(adapter none\)"):
        place.find(place.version(20), continue_from=base_bundle().digest)


def test_an_adapter_that_has_seen_what_is_held_out_now_is_refused(place):
    place.release(place.bundle(place.version(20)))
    with pytest.raises(SlipwayError, match=r"was trained on \d+ of the rows that this version holds out") as caught:
        place.find(place.version(30, split={"holdout_share": 0.3, "salt": "another"}))
    assert "keep split.salt" in caught.value.cure


def test_who_learned_from_an_erased_row_is_passed_over_and_named_with_all_who_began_with_it(place):
    first, second = place.version(20), place.version(30)
    old = place.bundle(first)
    middle = place.bundle(second, parent=old)
    new = place.bundle(place.version(40), parent=middle)
    place.release(new)
    ids = {
        part: [json.loads(line)["id"] for line in (version.folder / "train.jsonl").open()]
        for part, version in (("first", first), ("second", second))
    }
    row = next(one for one in ids["second"] if one not in ids["first"])
    found = row_lineage(place.project.environment, place.home, row)
    assert {one.adapter: one.through for one in found.learners} == {
        short(middle.adapter.digest): "",
        short(new.adapter.digest): "",  # its own version has the row as well
    }
    early = row_lineage(place.project.environment, place.home, ids["first"][0])
    assert short(old.adapter.digest) in {one.adapter for one in early.learners}

    erase(place.home, None, [row], "ann", "asked", NOW)
    said = []
    assert place.find(place.version(50), said).bundle == old.digest
    assert [text.partition(" (")[0] for text in said] == [
        *(f"bundle {short(one.digest)}" for one in (new, middle)),
        f"training begins with the adapter of bundle {short(old.digest)}",
    ]
    with pytest.raises(SlipwayError, match="learned from rows that were erased since"):
        place.find(place.version(50), continue_from=new.digest)


def test_who_began_with_an_adapter_has_learned_from_its_rows(place):
    first = place.version(9)
    old = place.bundle(first)
    row = json.loads((first.folder / "train.jsonl").read_text().splitlines()[0])["id"]
    new = place.bundle(_others(place), parent=old)
    found = row_lineage(place.project.environment, place.home, row)
    assert {one.adapter: one.through for one in found.learners} == {
        short(old.adapter.digest): "",
        short(new.adapter.digest): short(old.adapter.digest),
    }
    assert f"began with adapter {short(old.adapter.digest)}, which learned from {short(first.digest)}" in found.render()
    assert f"began with the adapter of bundle {short(old.digest)}" in bundle_rows(place.home, new.digest)


def _others(place):
    """A version of other rows altogether."""
    rows = [
        {"messages": [{"role": "user", "content": f"Who is {n}?"}, {"role": "assistant", "content": f"Ask {n}."}]}
        for n in range(20)
    ]
    (place.folder / "others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place.version(1, sources=[{"path": "others.jsonl"}])
