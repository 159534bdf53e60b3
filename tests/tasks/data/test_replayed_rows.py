"""`replay` sources: rows that were trained on before come again, each once, and none that was erased."""

import json
from dataclasses import replace

import pytest
from learning_place import NOW, LearningPlace
from pydantic import ValidationError

from configs.canonical import short
from configs.dataset import DatasetRecipe, Source
from configs.errors import SlipwayError
from tasks.data.dataset import build_dataset
from tasks.data.erase import erase
from tasks.data.of_project import version_of

REPLAY = {"replay": "live", "share": 0.5}


@pytest.fixture
def place(tmp_path, tokenizer_folder):
    return LearningPlace(tmp_path, tokenizer_folder)


def built(place, *sources, **recipe):
    """The version that a project makes of rows.jsonl and these sources."""
    given = {"name": "sums", "sources": [{"path": "rows.jsonl"}, *sources], "split": {"holdout_share": 0.3}} | recipe
    project = replace(place.project, dataset=DatasetRecipe.model_validate(given), dataset_folder=place.folder)
    return version_of(project, place.tokenizer, place.home)


def rows_of(version, part="train"):
    return [json.loads(line) for line in (version.folder / f"{part}.jsonl").open()]


def ids_of(version, part="train"):
    return [row["id"] for row in rows_of(version, part)]


def test_a_share_of_what_the_live_adapter_was_trained_on_comes_again_always_the_same(place):
    place.write_rows(40)
    first = built(place, REPLAY)
    assert len(first.manifest.sources) == 1  # nothing is live yet
    place.release(place.bundle(first))
    place.write_rows(40, first=100)
    second = built(place, REPLAY)
    again = [one for one in ids_of(second) if one in ids_of(first)]
    assert len(again) == -(-len(ids_of(first)) // 2)
    assert not set(ids_of(second, "holdout")) & set(ids_of(first))  # who was trained on is not held out later
    source = second.manifest.sources[1]
    assert (source.name, source.options["replay"]) == (f"replay-{short(first.digest)}.jsonl", first.digest)
    assert source.options["share"] == 0.5
    assert {row["fields"]["user"] for row in rows_of(second)} >= {
        row["fields"]["user"] for row in rows_of(first) if row["id"] in again
    }
    assert built(place, REPLAY) == second
    place.release(place.bundle(second))
    assert built(place, REPLAY) == second  # unchanged: not replayed on top of itself
    assert sorted(path.name for path in (place.home / "datasets").glob("[0-9a-f]*")) == sorted(
        short(one.digest) for one in (first, second)
    )
    place.write_rows(40, first=200)
    third = built(place, REPLAY)
    assert third.manifest.sources[1].options["replay"] == second.digest


def test_the_first_build_again_after_its_release_is_the_same_version(place):
    place.write_rows(30)
    first = built(place, REPLAY)
    place.release(place.bundle(first))
    assert built(place, REPLAY) == first


def test_a_row_that_is_there_already_is_not_trained_on_twice(place):
    place.write_rows(30)
    first = built(place)
    place.write_rows(31)
    second = built(place, {"replay": first.digest, "share": 1.0})
    assert len(set(ids_of(second))) == len(ids_of(second))
    assert set(ids_of(first)) <= set(ids_of(second))
    assert second.manifest.duplicates == len(ids_of(first))


def test_an_erased_row_never_comes_back(place):
    place.write_rows(30)
    first = built(place)
    gone, *_ = rows_of(first)
    erase(place.home, ("user", gone["fields"]["user"]), (), "ann", "asked", NOW)
    place.write_rows(30, first=100)
    second = built(place, {"replay": first.digest, "share": 1.0})
    assert gone["id"] not in ids_of(second)
    assert len(ids_of(first)) == len(set(ids_of(second)) & set(ids_of(first)))  # the others are all there


def test_only_what_is_live_cannot_be_replayed_before_anything_is(place):
    with pytest.raises(SlipwayError, match="nothing is live yet"):
        built(place, sources=[REPLAY])


def test_a_version_that_is_not_there_is_named(place):
    place.write_rows(5)
    with pytest.raises(SlipwayError, match="there is no dataset version 000000000000"):
        built(place, {"replay": f"sha256:{'0' * 64}", "share": 0.1})


def test_a_recipe_without_its_project_cannot_know_what_is_live(place):
    place.write_rows(5)
    given = {"name": "sums", "sources": [{"path": "rows.jsonl"}, REPLAY], "split": {"holdout_share": 0.3}}
    with pytest.raises(SlipwayError, match="was not looked up") as caught:
        build_dataset(DatasetRecipe.model_validate(given), place.folder, place.tokenizer, "", place.home)
    assert "sources.1.replay" in str(caught.value.where)


@pytest.mark.parametrize("given", [{"replay": "live"}, {"path": "a", "share": 0.1}, {"replay": "live", "share": 0.0}])
def test_a_source_to_replay_says_how_much(given):
    with pytest.raises(ValidationError, match="share"):
        Source.model_validate(given)
