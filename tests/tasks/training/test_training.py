"""Training really trains, resumes, stops and skips; on a model of a few thousand weights, with the real TRL."""

import json
import os
import signal
from types import SimpleNamespace

import psutil
import pytest
from tiny_model import conversation, save_tiny_model, tiny_tokenizer

from configs.errors import SlipwayError
from configs.training import LoraSettings, TrainingConfig
from configs.training_place import TrainingBudget, TrainingPlace
from delivery.build.budget import TrainingUsage
from delivery.clients.bundles import adapters as adapter_store
from tasks.training import loss_curve
from tasks.training.train import ParentAdapter, train, training_key

pytestmark = pytest.mark.live

CONFIG = TrainingConfig(
    lora=LoraSettings(rank=4, alpha=8), batch_size=4, learning_rate=0.01, checkpoint_every_steps=3, epochs=2
)
PROMPT = "Be brief."


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def dataset(tmp_path):
    """18 rows: 9 steps of 4 in two epochs. Training asks a dataset version for its digest and its folder alone."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = [{"id": f"r{i}", "messages": conversation(i, turns=1 + i % 2)} for i in range(18)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SimpleNamespace(digest="sha256:" + "5" * 64, folder=folder, erased=0)


class StoppedError(Exception):
    pass


class StopsAt5(list):
    """Hears of a training's steps, and breaks the fifth off."""

    def append(self, event):
        if event.get("step") == 5:
            raise StoppedError


def run_here(model, dataset, folder, config, events, parent=None, place=TrainingPlace()):  # noqa: B008
    """The worker's work without the process: torch is imported once for all tests."""
    import torch

    from tasks.training.run import TrainingRun, run_training

    torch.set_num_threads(1)  # the model is too small for two

    folder.mkdir(exist_ok=True)
    run = TrainingRun(
        rows=dataset.folder / "train.jsonl",
        model=model,
        model_revision="sha256:base",
        config=config,
        system_prompt=PROMPT,
        folder=folder,
        parent=parent,
        place=place,
    )
    run_training(run, events.append)


@pytest.mark.timeout(400)
def test_a_training_killed_in_the_middle_goes_on_from_its_checkpoint_and_is_then_never_done_again(
    model, dataset, tmp_path
):
    home, killed, seen = tmp_path / "home", [], []

    def kill_at_step_5(done, total, text):
        if done == 5:
            (worker,) = (child for child in psutil.Process().children() if "tasks.training.worker" in child.cmdline())
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(SlipwayError, match="killed by signal 9"):
        train(dataset, model, CONFIG, PROMPT, home, kill_at_step_5)
    assert killed
    assert not (home / "adapters").exists()

    trained = train(dataset, model, CONFIG, PROMPT, home, lambda *event: seen.append(event))
    steps = [done for done, total, _ in seen if total]
    assert steps[0] in (4, 5, 6)  # after the checkpoint of step 3, whatever was reported before the kill
    assert steps == list(range(steps[0], 10))
    assert [point.step for point in loss_curve.read(trained.curve)] == list(range(1, 10))
    assert not trained.skipped
    assert trained.picture.read_bytes().startswith(b"\x89PNG")
    assert adapter_store.problems_of(trained.adapter, trained.folder) == []
    assert {path.name for path in trained.folder.iterdir()} == set(adapter_store.FILES)

    again = train(dataset, model, CONFIG, PROMPT, home, lambda *event: seen.append(event))
    assert again == trained.model_copy(update={"skipped": True})
    assert "unchanged" in seen[-1][2]


def test_the_loss_falls_and_the_proof_of_the_mask_is_kept(model, dataset, tmp_path):
    events = []
    run_here(model, dataset, tmp_path / "run", CONFIG.model_copy(update={"epochs": 6}), events)
    losses = [event["loss"] for event in events if event["event"] == "step"]
    assert sum(losses[-3:]) / 3 < 0.8 * losses[0]
    proof = json.loads((tmp_path / "run" / "mask_audit.json").read_text())
    assert (proof["rows"], proof["turns"], proof["end_of_turn"]) == (18, 27, ["<|im_end|>"])
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "sha256:base"
    assert str(tmp_path) not in json.dumps(config)


def test_the_same_training_gives_the_same_adapter_whether_or_not_it_was_interrupted(model, dataset, tmp_path):
    run_here(model, dataset, tmp_path / "whole", CONFIG, [])

    with pytest.raises(StoppedError):
        run_here(model, dataset, tmp_path / "resumed", CONFIG, StopsAt5())
    half = tmp_path / "resumed" / "checkpoints" / "checkpoint-4"
    half.mkdir()  # as a kill in the middle of writing leaves it
    run_here(model, dataset, tmp_path / "resumed", CONFIG, [])
    assert not half.exists()
    digests = {adapter_store.describe(tmp_path / name / "adapter").digest for name in ("whole", "resumed")}
    assert len(digests) == 1


def test_a_training_stops_at_its_budget_and_goes_on_from_its_checkpoint_once_that_is_raised(model, dataset, tmp_path):
    run_here(model, dataset, tmp_path / "whole", CONFIG, [])
    points = loss_curve.read(tmp_path / "whole" / "curve.jsonl")
    tight, events = TrainingPlace(budget=TrainingBudget(tokens=points[3].tokens)), []
    for _ in range(2):  # the same again does not get further
        with pytest.raises(SlipwayError, match=r"stopped at its budget: [\d,]+ tokens, and budget.tokens is") as caught:
            run_here(model, dataset, tmp_path / "tight", CONFIG, events, place=tight)
        assert str(caught.value.where).endswith("checkpoint-4")
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4]
    assert not (tmp_path / "tight" / "adapter").exists()
    enough = TrainingPlace(
        budget=TrainingBudget(tokens=points[-1].tokens)
    )  # reached by the last step, which ends it anyway
    run_here(model, dataset, tmp_path / "tight", CONFIG, [], place=enough)
    digests = {adapter_store.describe(tmp_path / name / "adapter").digest for name in ("whole", "tight")}
    assert len(digests) == 1
    usage = TrainingUsage.model_validate_json((tmp_path / "tight" / "usage.json").read_bytes())
    assert usage.tokens == points[-1].tokens
    assert usage.peak_bytes > 2**20


def test_a_continued_training_begins_where_its_parent_ended_and_resumes_to_the_same_bytes(model, dataset, tmp_path):
    first, second, whole = [], [], tmp_path / "whole"
    run_here(model, dataset, tmp_path / "parent", CONFIG.model_copy(update={"epochs": 6}), first)
    parent = tmp_path / "parent" / "adapter"
    gentle = CONFIG.model_copy(update={"learning_rate": 1e-4, "lora": LoraSettings(rank=4, alpha=8, dropout=0.1)})
    run_here(model, dataset, whole, gentle, second, parent)
    losses = [[event["loss"] for event in events if event["event"] == "step"] for events in (first, second)]
    assert losses[1][0] < losses[0][0]  # the parent has learned these rows for six epochs
    config = json.loads((whole / "adapter" / "adapter_config.json").read_text())
    assert (config["lora_dropout"], config["r"], config["inference_mode"]) == (0.1, 4, True)
    names = {path.name for path in (whole / "adapter").iterdir()}
    assert names == set(adapter_store.FILES)

    with pytest.raises(StoppedError):
        run_here(model, dataset, tmp_path / "resumed", gentle, StopsAt5(), parent)
    run_here(model, dataset, tmp_path / "resumed", gentle, [], parent)
    digests = [adapter_store.describe(tmp_path / name / "adapter").digest for name in ("whole", "resumed", "parent")]
    assert digests[0] == digests[1] != digests[2]


def test_the_loss_on_a_cpu_is_exactly_the_one_of_trl(model, dataset, tmp_path):
    from trl import SFTTrainer

    from tasks.training.chat import Chat
    from tasks.training.methods import sft
    from tasks.training.run import Recorder, TrainingRun, _trainer

    run = TrainingRun(
        rows=dataset.folder / "train.jsonl",
        model=model,
        model_revision="",
        config=CONFIG,
        system_prompt=PROMPT,
        folder=tmp_path,
    )
    chat = Chat(tiny_tokenizer(), frozenset({1}))
    items = sft.read(({"id": f"r{i}", "messages": conversation(i)} for i in range(4)), chat, PROMPT, CONFIG)
    recorder = Recorder(run, lambda event: None, tmp_path / "curve", [])
    trainer = _trainer(run, sft, chat.tokenizer, items, range(4), recorder)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    ours = sft.CpuAwareTrainer.compute_loss(trainer, trainer.model, dict(batch))
    theirs = SFTTrainer.compute_loss(trainer, trainer.model, dict(batch))
    assert ours.item() == pytest.approx(theirs.item(), rel=2e-3)  # bf16 where the machine has it


def test_a_batch_in_parts_has_every_row_once_and_no_part_is_too_long():
    import torch

    from tasks.training.methods.sft import split_batch

    lengths = [9, 2, 5, 5, 1, 30]
    mask = torch.tensor([[1] * n + [0] * (30 - n) for n in lengths])
    rows = torch.arange(6)[:, None] * mask
    parts = list(split_batch({"input_ids": rows, "attention_mask": mask}, tokens=60))
    assert [part["input_ids"].shape for part in parts] == [(2, 9), (2, 5), (2, 30)]
    assert [n for part in parts for n in part["attention_mask"].sum(dim=1).tolist()] == lengths
    assert len(list(split_batch({"input_ids": rows, "attention_mask": mask}, tokens=1))) == 6


@pytest.mark.parametrize("alpha", [10**30, 10**18])
def test_a_training_that_breaks_is_stopped_at_once_and_keeps_its_curve(model, dataset, tmp_path, alpha):
    """The first overflows, the second saturates every activation: its loss stays finite, its gradient is zero."""
    absurd = CONFIG.model_copy(update={"lora": LoraSettings(rank=4, alpha=alpha), "warmup_ratio": 0.0})
    with pytest.raises(SlipwayError, match=r"training broke at step [1-3]: loss .*, gradient norm") as caught:
        run_here(model, dataset, tmp_path / "run", absurd, [])
    assert f"lower learning_rate (it is 0.01) or lora.alpha ({alpha})" in caught.value.cure
    points = loss_curve.read(tmp_path / "run" / "curve.jsonl")
    assert f"at step {len(points)}:" in caught.value.what
    assert (tmp_path / "run" / "curve.png").exists()
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_loss_that_is_no_number_names_the_step_and_the_last_finite_loss(model, dataset, tmp_path):
    from tasks.training.run import Recorder, TrainingRun

    run = TrainingRun(
        rows=dataset.folder, model=model, model_revision="", config=CONFIG, system_prompt=PROMPT, folder=tmp_path
    )
    recorder = Recorder(run, lambda event: None, tmp_path / "curve.jsonl", [])
    recorder.trainer = SimpleNamespace(seen_tokens=10)
    state = SimpleNamespace(global_step=1, max_steps=9)
    recorder.on_log(None, state, None, {"loss": 2.5, "grad_norm": 1.0, "learning_rate": 0.1})
    state.global_step = 2
    with pytest.raises(SlipwayError, match=r"step 2: loss nan, gradient norm 1.0; the last .* was 2.5 at step 1"):
        recorder.on_log(None, state, None, {"loss": float("nan"), "grad_norm": 1.0, "learning_rate": 0.1})
    assert [point.loss for point in loss_curve.read(tmp_path / "curve.jsonl")] == [2.5, None]


def test_unknown_target_modules_are_refused_before_anything_starts(model, dataset, tmp_path):
    wrong = CONFIG.model_copy(update={"lora": LoraSettings(target_modules=("q_proj", "w_pack"))})
    with pytest.raises(SlipwayError, match="no linear layer named w_pack"):
        train(dataset, model, wrong, PROMPT, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_base_model_that_is_not_there_is_named(dataset, tmp_path):
    with pytest.raises(SlipwayError, match="there is no base model"):
        train(dataset, tmp_path / "nowhere", CONFIG, PROMPT, tmp_path / "home")


def test_whatever_determines_the_adapter_changes_the_key(dataset):
    key = training_key(dataset, "sha256:m", CONFIG, PROMPT)
    assert key == training_key(dataset, "sha256:m", CONFIG, PROMPT)
    other = SimpleNamespace(digest="sha256:" + "6" * 64, folder=dataset.folder, erased=0)
    changed = {
        training_key(other, "sha256:m", CONFIG, PROMPT),
        training_key(dataset, "sha256:n", CONFIG, PROMPT),
        training_key(dataset, "sha256:m", CONFIG.model_copy(update={"seed": 18}), PROMPT),
        training_key(dataset, "sha256:m", CONFIG, PROMPT + "!"),
    }
    assert len(changed | {key}) == 5


def test_a_parent_counts_by_its_adapter_in_whichever_bundle_it_is(dataset, tmp_path):
    live = CONFIG.model_copy(update={"continue_from": "live"})
    first, same, other = (ParentAdapter(bundle=b, adapter=a, folder=tmp_path) for b, a in ("aA", "bA", "cB"))
    keys = [training_key(dataset, "sha256:m", live, PROMPT, None, one) for one in (first, same, other, None)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert keys[3] == training_key(dataset, "sha256:m", CONFIG, PROMPT)
