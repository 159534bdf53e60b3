"""The state folder's mirror: what one machine made is found by the next, whose disk is empty."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from documents_of import dataset_manifest

from benchmarks.tiny_bundle import tiny_bundle, write_tiny_lora
from configs.canonical import short
from configs.environment import Environment
from configs.errors import SlipwayError
from configs.store import StoreConfig
from delivery.build.dataset import DatasetVersion
from delivery.clients.bundles import adapters as adapter_store
from delivery.clients.bundles.images import read_bundle, write_bundle
from delivery.clients.store.errors import DamagedError, StoreAwayError
from tasks.mirror import StoreMirror, mirror_of
from tasks.training.train import TrainedAdapter

KEY = "sha256:" + "7" * 64
TRAINING = f"trainings/{'7' * 12}"


class KilledError(BaseException):
    """The machine is gone."""


@pytest.fixture
def config(tmp_path: Path) -> StoreConfig:
    return StoreConfig(url=f"file://{tmp_path}/shared")


def machine(config: StoreConfig, home: Path) -> StoreMirror:
    home.mkdir(exist_ok=True)
    return StoreMirror(config, home)


def step(home: Path, number: int) -> None:
    """As a trainer leaves it, which keeps two checkpoints."""
    folder = home / TRAINING
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    with (folder / "curve.jsonl").open("a") as curve:
        curve.write(json.dumps({"step": number}) + "\n")
    checkpoint = folder / "checkpoints" / f"checkpoint-{number}"
    checkpoint.mkdir()
    (checkpoint / "adapter_model.safetensors").write_text(f"weights of step {number}")
    (checkpoint / "complete").touch()
    shutil.rmtree(folder / "checkpoints" / f"checkpoint-{number - 2}", ignore_errors=True)


def checkpoints(home: Path) -> list[str]:
    return sorted(path.name for path in (home / TRAINING / "checkpoints").iterdir())


def finished(home: Path) -> TrainedAdapter:
    folder = home / TRAINING
    write_tiny_lora(home / "made", 1)
    adapter = adapter_store.describe(home / "made")
    place = adapter_store.store(home / "made", adapter, home)
    (folder / "done.json").write_text(json.dumps({"adapter": adapter.model_dump(mode="json")}))
    shutil.rmtree(folder / "checkpoints")
    return TrainedAdapter(
        adapter=adapter,
        folder=place,
        curve=folder / "curve.jsonl",
        picture=folder / "curve.png",
        final_loss=1.0,
        trained_tokens=1,
        seconds=1.0,
        skipped=False,
    )


def test_a_training_goes_on_from_the_checkpoint_of_a_machine_that_is_gone(config: StoreConfig, tmp_path: Path) -> None:
    first, second, told = tmp_path / "first", tmp_path / "second", []
    with suppress(KilledError), machine(config, first).training(KEY) as listen:
        for number in (1, 2, 3):
            step(first, number)
            listen(number, 9, "")
        half = first / TRAINING / "checkpoints" / "checkpoint-4"
        half.mkdir()
        (half / "optimizer.pt").write_text("half of")
        raise KilledError
    with machine(config, second).training(KEY, lambda *event: told.append(event[2])):
        assert checkpoints(second) == ["checkpoint-2", "checkpoint-3"]
        kept = second / TRAINING / "checkpoints" / "checkpoint-3" / "adapter_model.safetensors"
        assert kept.read_text() == "weights of step 3"
        assert len((second / TRAINING / "curve.jsonl").read_text().splitlines()) == 3
    assert told == ["fetching checkpoint 3 from the store"]


def test_what_is_newer_here_is_not_replaced_by_what_is_older_there(config: StoreConfig, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with machine(config, first).training(KEY) as listen:
        step(first, 1)
        listen(1, 9, "")
    step(second, 5)
    with machine(config, second).training(KEY):
        assert checkpoints(second) == ["checkpoint-5"]


def test_a_finished_training_is_found_with_its_adapter_and_its_checkpoints_leave_the_store(
    config: StoreConfig, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    mirror = machine(config, first)
    with mirror.training(KEY) as listen:
        step(first, 1)
        listen(1, 1, "")
    trained = finished(first)
    mirror.keep_training(KEY, trained)
    left = [path.read_text() for path in (tmp_path / "shared" / "trainings").rglob("*") if path.is_file()]
    assert not [text for text in left if text.startswith("weights of")]
    with machine(config, second).training(KEY):
        assert (second / TRAINING / "done.json").is_file()
        assert adapter_store.problems_of(trained.adapter, second / "adapters" / trained.folder.name) == []


def test_a_store_that_is_away_costs_a_checkpoint_and_not_the_training(config: StoreConfig, tmp_path: Path) -> None:
    home, told = tmp_path / "home", []
    mirror = machine(config, home)
    blocked = tmp_path / "shared"
    with mirror.training(KEY, lambda *event: told.append(event[2])) as listen:
        blocked.write_text("a file where the folder was")
        step(home, 1)
        listen(1, 9, "step 1")
        listen(2, 9, "step 2")  # not tried again until there is another checkpoint
        blocked.unlink()
        step(home, 3)
        listen(3, 9, "step 3")
    assert [text.partition(":")[0] for text in told] == [
        "step 1",
        "checkpoint 1 is on this disk alone",
        "step 2",
        "step 3",
        "checkpoint 3 is in the store",
    ]
    trained = finished(home)
    shutil.rmtree(blocked)
    blocked.write_text("gone again")
    with pytest.raises(StoreAwayError):
        mirror.keep_training(KEY, trained)


def test_a_bundle_is_fetched_by_a_beginning_of_its_digest_and_verified(config: StoreConfig, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    mirror = machine(config, first)
    write_tiny_lora(tmp_path / "lora", 1)
    bundle = tiny_bundle("Be brief.", adapter_store.describe(tmp_path / "lora"))
    layout = write_bundle(bundle, tmp_path / "lora", first)
    mirror.keep_bundle(bundle.digest)
    for reference in (bundle.digest, layout.name[:6], bundle.variant_name):
        machine(config, second).fetch_bundle(reference)
        assert read_bundle(second, reference) == bundle
        shutil.rmtree(second / "bundles")
    (tmp_path / "shared" / "bundles" / layout.name).rename(tmp_path / "shared" / "bundles" / ("0" * 12))
    with pytest.raises(DamagedError, match="store's copy is refused"):
        machine(config, second).fetch_bundle("0" * 12)
    assert list((second / "bundles").glob("0*")) == []
    machine(config, second).fetch_bundle("sha256:" + "5" * 64)  # whoever reads it says that there is none
    with pytest.raises(SlipwayError, match="is no bundle"):
        read_bundle(second, "5" * 12)


def test_a_bundle_comes_with_the_dataset_version_that_it_was_trained_on(config: StoreConfig, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    mirror = machine(config, first)
    write_tiny_lora(tmp_path / "lora", 1)
    version = "sha256:" + "d" * 64
    adapter = adapter_store.describe(tmp_path / "lora")
    bundle = tiny_bundle("Be brief.", adapter).model_copy(update={"dataset_version": version})
    rows = first / "datasets" / short(version)
    rows.mkdir(parents=True)
    (rows / "train.jsonl").write_text("{}\n")
    write_bundle(bundle, tmp_path / "lora", first)
    mirror.keep_bundle(bundle.digest)
    mirror.keep_dataset(DatasetVersion(digest=version, folder=rows, manifest=dataset_manifest()))
    machine(config, second).fetch_built(bundle.digest)
    assert read_bundle(second, bundle.digest) == bundle
    assert (second / "datasets" / rows.name / "train.jsonl").read_text() == "{}\n"


def test_eval_results_of_other_machines_are_here_before_one_is_asked_for(config: StoreConfig, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with machine(config, first).evals():
        (first / "evals").mkdir()
        (first / "evals" / "abc.json").write_text("1")
    with suppress(KilledError), machine(config, second).evals():
        assert (second / "evals" / "abc.json").read_text() == "1"
        (second / "evals" / "def.json").write_text("2")
        raise KilledError  # what was found out before an error is kept all the same
    with machine(config, tmp_path / "third").evals():
        assert sorted(path.stem for path in (tmp_path / "third" / "evals").glob("*.json")) == ["abc", "def"]


def test_without_a_store_nothing_happens(tmp_path: Path) -> None:
    mirror = mirror_of(Environment(), tmp_path)
    mirror.require()
    mirror.fetch_bundle("abc")
    with mirror.evals(), mirror.training(KEY, print) as listen:
        assert listen is print
    assert list(tmp_path.iterdir()) == []
