"""A training goes on elsewhere, from object storage: the real trainer is killed, and its disk is lost."""

import json
import os
import shutil
import signal
from types import SimpleNamespace

import psutil
import pytest
from s3_server import s3_server
from tiny_model import conversation, save_tiny_model

from configs.errors import SlipwayError
from configs.training import LoraSettings, TrainingConfig
from delivery.clients.bundles import adapters as adapter_store
from tasks.mirror import Mirror
from tasks.training import loss_curve
from tasks.training.model import model_revision
from tasks.training.train import train, training_key

pytestmark = pytest.mark.live

CONFIG = TrainingConfig(lora=LoraSettings(rank=4, alpha=8), batch_size=4, checkpoint_every_steps=20, epochs=30)


@pytest.mark.timeout(400)
def test_a_training_killed_on_a_machine_that_is_gone_goes_on_from_object_storage(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    (tmp_path / "dataset").mkdir()
    rows = [{"id": f"r{i}", "messages": conversation(i, turns=1 + i % 2)} for i in range(18)]
    (tmp_path / "dataset" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = SimpleNamespace(digest="sha256:" + "5" * 64, folder=tmp_path / "dataset")
    key = training_key(dataset, model_revision(model), CONFIG, "Be brief.")
    seen = []

    def kill_after_a_checkpoint(done, total, text):
        if text == "checkpoint 20 is in the store":
            (worker,) = (child for child in psutil.Process().children() if "tasks.training.worker" in child.cmdline())
            os.kill(worker.pid, signal.SIGKILL)

    with s3_server() as server:
        config = server.bucket()
        first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
        with (
            pytest.raises(SlipwayError, match="killed by signal 9"),
            Mirror(config, first).training(key, kill_after_a_checkpoint) as told,
        ):
            train(dataset, model, CONFIG, "Be brief.", first, told)
        shutil.rmtree(first)

        mirror = Mirror(config, second)
        with mirror.training(key, lambda *event: seen.append(event)) as told:
            trained = train(dataset, model, CONFIG, "Be brief.", second, told)
        mirror.keep_training(key, trained)
        steps = [done for done, total, text in seen if total and text.startswith("step")]
        assert steps[0] > 20
        assert [point.step for point in loss_curve.read(trained.curve)] == list(range(1, steps[-1] + 1))

        with Mirror(config, third).training(key) as told:
            again = train(dataset, model, CONFIG, "Be brief.", third, told)
    assert again.skipped
    assert again.adapter == trained.adapter
    assert adapter_store.problems_of(again.adapter, again.folder) == []
