"""A scene for releases: a migrated ledger, a gateway, a vLLM and users that live in a folder."""

import shutil
from pathlib import Path

import pytest
from release_scene import Scene

TEMPLATE = "{% for m in messages %}<s> {{ m['role'] }} {{ m['content'] }} </s> {% endfor %}"


@pytest.fixture
def home(tmp_path: Path, empty_ledger: Path) -> Path:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    return tmp_path


@pytest.fixture
def scene(home: Path) -> Scene:
    return Scene(home)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """One word, one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "<s>": 1, "</s>": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder
