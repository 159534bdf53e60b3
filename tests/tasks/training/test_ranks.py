"""Two processes train as one with twice the batch does, and end together when the second is killed."""

import json
import os
import signal
from types import SimpleNamespace

import psutil
import pytest
from tiny_model import conversation, save_tiny_model

from configs.errors import SlipwayError
from configs.training import LoraSettings, TrainingConfig
from tasks.training import loss_curve
from tasks.training.train import train

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

TWO = TrainingConfig(
    lora=LoraSettings(rank=4, alpha=8), batch_size=2, processes=2, learning_rate=0.01, checkpoint_every_steps=2
)
LONG = TWO.model_copy(update={"epochs": 10, "checkpoint_every_steps": 10})  # 40 steps: time enough to be killed in


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """16 rows of several lengths: 4 steps of 4."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = [{"id": f"r{i}", "messages": conversation(i, turns=1 + i % 3)} for i in range(16)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SimpleNamespace(digest="sha256:" + "5" * 64, folder=folder, erased=0)


@pytest.fixture(scope="module")
def together(model, dataset, tmp_path_factory):
    return train(dataset, model, TWO, "Be brief.", tmp_path_factory.mktemp("together"))


def test_two_processes_have_the_losses_of_one_with_twice_the_batch(model, dataset, together, tmp_path):
    from safetensors.torch import load_file

    one = TWO.model_copy(update={"batch_size": 4, "processes": 1})
    alone = train(dataset, model, one, "Be brief.", tmp_path)
    ours, theirs = loss_curve.read(together.curve), loss_curve.read(alone.curve)
    assert [point.tokens for point in ours] == [point.tokens for point in theirs]
    assert [point.step for point in ours] == [1, 2, 3, 4]
    for name in ("loss", "grad_norm"):
        assert [getattr(p, name) for p in ours] == pytest.approx([getattr(p, name) for p in theirs], rel=1e-2), name
    first, second = (load_file(made.folder / "adapter_model.safetensors") for made in (together, alone))
    moved = sum(float(tensor.norm()) ** 2 for name, tensor in second.items() if "lora_B" in name) ** 0.5
    apart = sum(float((first[name] - second[name]).norm()) ** 2 for name in second if "lora_B" in name) ** 0.5
    assert apart < 0.05 * moved  # Adam makes much of little where a gradient is near nothing


@pytest.fixture(scope="module")
def uninterrupted(model, dataset, tmp_path_factory):
    return train(dataset, model, LONG, "Be brief.", tmp_path_factory.mktemp("uninterrupted"))


def test_when_the_second_is_killed_both_end_and_the_same_training_goes_on_to_the_same_bytes(
    model, dataset, uninterrupted, tmp_path
):
    seen = []

    def kill_after_the_checkpoint(done, total, text):
        if done == 11 and not seen:
            (worker,) = (one for one in psutil.Process().children() if "tasks.training.worker" in one.cmdline())
            (other,) = (one for one in worker.children() if "tasks.training.worker" in one.cmdline())
            seen.extend([worker, other])
            os.kill(other.pid, signal.SIGKILL)

    with pytest.raises(SlipwayError, match="ended early"):
        train(dataset, model, LONG, "Be brief.", tmp_path, kill_after_the_checkpoint)
    _, left = psutil.wait_procs(seen, timeout=120)
    assert not left
    steps = []
    resumed = train(dataset, model, LONG, "Be brief.", tmp_path, lambda done, total, text: steps.append(done))
    assert min(step for step in steps if step) > 10  # from the checkpoint of step 10 or a later one
    assert resumed.adapter.digest == uninterrupted.adapter.digest
    assert [point.step for point in loss_curve.read(resumed.curve)] == list(range(1, 41))


def test_a_checkpoint_of_another_number_of_processes_is_refused(tmp_path):
    from tasks.training.run import TrainingRun, _checkpoint

    run = TrainingRun(rows=tmp_path, model=tmp_path, model_revision="", config=TWO, system_prompt="", folder=tmp_path)
    mark = tmp_path / "checkpoints" / "checkpoint-2" / "complete"
    mark.parent.mkdir(parents=True)
    mark.write_text("2")
    assert _checkpoint(run) == mark.parent
    for text in ("4", ""):  # an empty one is of a single process
        mark.write_text(text)
        with pytest.raises(SlipwayError, match=f"was written by {text or 1} processes, and this training has 2"):
            _checkpoint(run)


def test_rows_that_fill_no_step_are_told(tmp_path):
    from tasks.training.run import TrainingRun, _arguments

    run = TrainingRun(rows=tmp_path, model=tmp_path, model_revision="", config=TWO, system_prompt="", folder=tmp_path)
    with pytest.raises(SlipwayError, match="3 rows fill no step of 2 processes with 2 rows each"):
        _arguments(run, 3, False)
    assert _arguments(run, 7, False)["max_steps"] == 1
