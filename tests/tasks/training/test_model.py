"""A base model is there, whole and harmless, or the error names the field and the cure."""

import json

import pytest

from configs.errors import SlipwayError
from configs.model import ModelConfig
from tasks.training.model import model_revision, prepare_model


@pytest.fixture
def folder(tmp_path):
    """The files of a model; nothing here reads the weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def prepare(folder, home):
    return prepare_model(ModelConfig(name="base", path=folder), home)


def test_a_folder_is_used_as_it_is(folder, tmp_path):
    assert prepare(folder, tmp_path / "home") == folder
    assert not (tmp_path / "home").exists()


def test_a_folder_that_is_not_there_is_named_with_its_field(tmp_path):
    with pytest.raises(SlipwayError) as caught:
        prepare(tmp_path / "nowhere", tmp_path)
    assert caught.value.where == "model.yaml: path"
    assert "there is no such folder" in str(caught.value)


@pytest.mark.parametrize(
    ("gone", "word"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", "no *.safetensors"),
        ("tokenizer.json", "tokenizer.json is missing"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_a_missing_file_is_named(folder, tmp_path, gone, word):
    (folder / gone).unlink()
    with pytest.raises(SlipwayError) as caught:
        prepare(folder, tmp_path)
    assert word in str(caught.value)


def test_all_that_is_missing_is_listed_at_once(folder, tmp_path):
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(SlipwayError) as caught:
        prepare(folder, tmp_path)
    assert len(caught.value.problems) == 3


def test_a_chat_template_within_the_tokenizers_settings_is_fine(folder, tmp_path):
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    assert prepare(folder, tmp_path) == folder


def test_weights_that_are_only_a_pickle_are_refused(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SlipwayError, match=r"weights only as pickle: pytorch_model\.bin"):
        prepare(folder, tmp_path)


def test_a_model_that_brings_its_own_code_is_refused(folder, tmp_path):
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(SlipwayError, match="which is never run"):
        prepare(folder, tmp_path)


def test_a_broken_json_is_named(folder, tmp_path):
    (folder / "config.json").write_text("{")
    with pytest.raises(SlipwayError, match=r"config\.json is not JSON"):
        prepare(folder, tmp_path)


def test_a_hub_model_that_is_not_in_the_cache_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SlipwayError, match="is not in the local cache") as caught:
        prepare_model(ModelConfig(name="base", hub="nobody/nothing", revision="0" * 40), tmp_path)
    assert caught.value.where == "model.yaml: hub"
    assert "unset HF_HUB_OFFLINE" in caught.value.cure


def test_the_revision_follows_names_and_contents_and_nothing_else(folder, tmp_path):
    revision = model_revision(folder)
    (folder / "README.md").write_text("not part of the model")
    (folder / "model.safetensors").touch()
    assert model_revision(folder) == revision
    moved = folder.rename(tmp_path / "elsewhere")
    assert model_revision(moved) == revision
    (moved / "tokenizer.json").rename(moved / "other.json")
    renamed = model_revision(moved)
    (moved / "model.safetensors").write_bytes(b"weightz")
    assert len({revision, renamed, model_revision(moved)}) == 3


def test_a_folder_without_model_has_no_revision(tmp_path):
    with pytest.raises(SlipwayError, match="there is no base model"):
        model_revision(tmp_path)
