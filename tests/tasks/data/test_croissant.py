"""A version as Croissant: mlcroissant validates the description and reads the rows back with it."""

import json

import pytest

from configs.dataset import DatasetRecipe
from configs.errors import SlipwayError
from tasks.data.croissant import export, validate
from tasks.data.dataset import build_dataset

pytestmark = pytest.mark.live  # mlcroissant's import alone takes seconds


@pytest.fixture
def version(tmp_path, tokenizer_folder):
    rows = [{"prompt": f"What is {n} + {n}?", "completion": "What next?", "user": f"u{n}"} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"name": "sums", "sources": [{"path": "rows.jsonl"}], "split": {"holdout_prompts": 5}}
    recipe = DatasetRecipe.model_validate(settings | {"filters": {"length": {"min_prompt_words": 1}}})
    return build_dataset(recipe, tmp_path, tokenizer_folder, "Be brief.", tmp_path / "home")


def test_the_rows_are_read_back_by_the_description(version, tmp_path):
    import mlcroissant

    path = export(version, "Apache-2.0", tmp_path / "out")
    dataset = mlcroissant.Dataset(jsonld=path)
    assert dataset.metadata.license == ["Apache-2.0"]
    assert version.digest in str(dataset.metadata.description)
    for part in ("train", "holdout"):
        found = list(dataset.records(part))
        kept = [json.loads(line) for line in (version.folder / f"{part}.jsonl").read_text().splitlines()]
        assert [row[f"{part}/id"].decode() for row in found] == [row["id"] for row in kept]
        said = [[one[f"{part}/messages/content"].decode() for one in row[f"{part}/messages"]] for row in found]
        assert said == [[message["content"] for message in row["messages"]] for row in kept]
    assert sorted(one.name for one in path.parent.iterdir()) == ["croissant.json", "holdout.jsonl", "train.jsonl"]


def test_a_folder_that_is_there_is_left_as_it_is(version, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(SlipwayError, match="is there already"):
        export(version, None, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_description_that_lost_a_file_is_refused_with_mlcroissants_words(version, tmp_path):
    path = export(version, None, tmp_path / "out")
    said = json.loads(path.read_text())
    said["distribution"] = said["distribution"][:1]
    path.write_text(json.dumps(said))
    with pytest.raises(SlipwayError, match="mlcroissant refuses"):
        validate(path)
