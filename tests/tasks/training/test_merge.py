"""peft merges an adapter into the base model's weights: base + alpha/r * B A, and the same bytes each time."""

from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load_file
from tiny_lora import ALPHA, LAYERS, MODULE, RANK, save_tiny_lora
from tiny_model import save_tiny_model

from configs.canonical import short
from configs.errors import SlipwayError
from delivery.clients.bundles.adapters import problems_of
from tasks.training.merge import merge

pytestmark = pytest.mark.live


def test_the_weights_are_base_and_adapter_together_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    base, adapter = save_tiny_model(tmp_path / "base"), save_tiny_lora(tmp_path / "adapter")
    found = merge(base, adapter, ["one two three", "four"], tmp_path / "home")
    before, lora = load_file(base / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    after = load_file(found.folder / "model.safetensors")
    for layer in range(LAYERS):
        name = MODULE.format(layer)
        a, b = (lora[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
        wanted = before[f"{name}.weight"] + ALPHA / RANK * (b @ a)
        numpy.testing.assert_allclose(after[f"{name}.weight"], wanted, rtol=1e-5, atol=1e-6)
    assert set(after) == set(before)
    assert found.folder == tmp_path / "home" / "merged" / short(found.merged.digest)
    assert problems_of(found.merged, found.folder) == []
    assert (found.folder / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert found.same == found.positions > 0
    assert 0 <= found.largest < 1e-3
    assert found.size == sum(path.stat().st_size for path in found.folder.iterdir())
    again = merge(base, adapter, ["one"], tmp_path / "other")
    assert again.merged == found.merged


def test_an_adapter_of_another_model_ends_with_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    base, adapter = save_tiny_model(tmp_path / "base"), save_tiny_lora(tmp_path / "adapter")
    settings = adapter / "adapter_config.json"
    settings.write_text(settings.read_text().replace("q_proj", "no_such_layer"))
    with pytest.raises(SlipwayError, match="no_such_layer") as caught:
        merge(base, adapter, ["one"], tmp_path / "home")
    assert caught.value.where == str(tmp_path / "home" / "merged" / "merge.log")
    assert [path.name for path in (tmp_path / "home" / "merged").iterdir()] == ["merge.log"]
