"""`continue_from`: which adapter that is, what refuses it, and who has learned from its rows afterwards."""

import json

import pytest
from learning_place import NOW, LearningPlace
from release_fakes import base_bundle

from configs.canonical import short
from configs.errors import SlipwayError
from configs.training import LoraSettings
from delivery.clients.bundles.images import unpack_adapter, write_bundle
from tasks.data.erase import erase
from tasks.release.lineage import bundle_rows, row_lineage


@pytest.fixture
def place(tmp_path, tokenizer_folder):
    return LearningPlace(tmp_path, tokenizer_folder)


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
