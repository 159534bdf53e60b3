"""Trains an adapter, or finds that this very training was done before.

The work is done by a child process (`tasks.training.worker`), for it imports torch and trl; what it leaves behind is
put under the adapter's digest here.
"""

import fcntl
import importlib.metadata
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

import configs.prompts
from configs.canonical import digest_bytes, digest_of, short
from configs.errors import SlipwayError
from configs.strict import Strict
from configs.training import TrainingConfig
from configs.training_place import TrainingPlace
from delivery.build.budget import TrainingUsage
from delivery.build.bundle import Adapter
from delivery.build.dataset import DatasetVersion
from delivery.build.servable import linear_modules, problems_with, problems_with_settings
from delivery.clients.bundles import adapters as adapter_store
from delivery.clients.bundles.safetensors_header import read_model_shapes, read_shapes
from delivery.clients.fresh_folder import explained_writes
from delivery.progress import Progress, silent
from tasks import child
from tasks.training import loss_curve
from tasks.training.model import model_revision

SHARED_FILES = ("run.py", "ranks.py", "chat.py", "rows.py", "loss_mask.py", "methods/__init__.py")
TRAINER_PACKAGES = ("torch", "transformers", "trl", "peft")


class ParentAdapter(Strict):
    """The adapter that a training begins with, instead of a fresh one."""

    bundle: str  # digest of the bundle that it is in
    adapter: str  # its own digest
    folder: Path


class TrainedAdapter(Strict):
    """What a training left behind."""

    adapter: Adapter
    folder: Path  # home/adapters/<digest12>
    curve: Path  # JSON lines: step, loss, lr, grad_norm, tokens, seconds
    picture: Path
    final_loss: float  # mean over the last steps' assistant tokens, in nats
    trained_tokens: int  # all that went through the model, padding not
    seconds: float  # of training proper, resumed runs included
    skipped: bool  # this very training had been done before
    made_of: dict[str, Any] = Field(default_factory=dict)  # digests of the code, versions of the packages
    continued_from: str | None = None  # digest of the parent's bundle
    peak_bytes: int = 0  # of memory; 0: not known

    @property
    def usage(self) -> TrainingUsage:
        """What it took, measured."""
        return TrainingUsage(tokens=self.trained_tokens, seconds=self.seconds, peak_bytes=self.peak_bytes)


def training_key(
    dataset: DatasetVersion,
    revision: str,
    config: TrainingConfig,
    system_prompt: str,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    parent: ParentAdapter | None = None,
) -> str:
    """`sha256:...` over all that determines the adapter: data, base model, settings, prompt, code and versions.

    Of a parent its adapter counts, in whichever bundle that is.

    The chat template is one of the files that the base model's revision is made of.
    """
    return digest_of(
        {
            "dataset": dataset.digest,
            "model": revision,
            "config": config.model_dump(mode="json") | {"continue_from": parent.adapter if parent else None},
            "system_prompt": system_prompt,
            "chat_template_kwargs": dict(chat_template_kwargs or {}),
            **trainer(config),
        }
    )


def trainer(config: TrainingConfig) -> dict[str, Any]:
    """What trains by these settings: digests of the code by file, versions of the packages."""
    here = Path(__file__).parent
    files = [here / name for name in (*SHARED_FILES, f"methods/{config.method}.py")]
    return {
        "code": {path.name: digest_bytes(path.read_bytes()) for path in (*files, Path(configs.prompts.__file__))},
        "versions": {name: importlib.metadata.version(name) for name in TRAINER_PACKAGES},
    }


def train(
    dataset: DatasetVersion,
    model: Path,
    config: TrainingConfig,
    system_prompt: str,
    home: Path,
    on_progress: Progress = silent,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    parent: ParentAdapter | None = None,
    place: TrainingPlace | None = None,
) -> TrainedAdapter:
    """Trains on `train.jsonl` of a dataset version, with `system_prompt` in front of rows that have none of their own.

    `parent` is what `continue_from` of the settings was resolved to; without one a fresh LoRA is trained.
    Where it reaches the budget of `place`, it stops with its checkpoint kept, and a SlipwayError says so.

    The same dataset, model, settings, prompt and code are not trained twice. A run that was killed goes on from its
    last checkpoint. Raises SlipwayError when rows do not fit, the loss mask is wrong, the loss diverges or the worker
    dies; logs and curve stay in home/trainings/<key12>/.
    """
    if dataset.erased:
        what = f"{dataset.erased} rows of dataset version {short(dataset.digest)} were erased since it was built"
        raise SlipwayError(what, cure="build a new one: slipway build leaves them out")
    revision = model_revision(model)
    modules = linear_modules(read_model_shapes(model))
    problems = problems_with_settings(config, modules)
    if problems:
        raise SlipwayError("these settings cannot be trained and served", problems=problems)
    key = training_key(dataset, revision, config, system_prompt, chat_template_kwargs, parent)
    told = {"made_of": trainer(config), "continued_from": parent.bundle if parent else None}
    folder = home.absolute() / "trainings" / short(key)
    with explained_writes(folder, f"training {folder.name}"), alone(folder):
        done = _done(folder, home)
        if done is not None:
            on_progress(1, 1, f"unchanged: adapter {short(done.adapter.digest)} was trained before")
            return done.model_copy(update=told)
        run = {
            "rows": str((dataset.folder / "train.jsonl").absolute()),
            "model": str(model.absolute()),
            "model_revision": revision,
            "config": config.model_dump(mode="json"),
            "system_prompt": system_prompt,
            "chat_template_kwargs": dict(chat_template_kwargs or {}),
            "folder": str(folder),
            "place": (place or TrainingPlace()).model_dump(mode="json"),
            "parent": str(parent.folder.absolute()) if parent else None,
        }
        (folder / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
        if not (folder / "adapter").is_dir():  # it is renamed into place as the worker's last act
            _work(folder, config.processes, on_progress)
        _check_servable(folder / "adapter", config, modules)
        return _finish(folder, home).model_copy(update=told)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time trains in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SlipwayError(
                "this very training is running already", where=str(folder), cure="wait for it, or end it"
            ) from None
        yield


def _peak(folder: Path) -> int:
    """As the worker measured it; 0 where an older one left no word of it."""
    file = folder / "usage.json"
    return TrainingUsage.model_validate_json(file.read_bytes()).peak_bytes if file.is_file() else 0


def _done(folder: Path, home: Path) -> TrainedAdapter | None:
    """The finished training, unless there is none or its adapter is not whole any more."""
    try:
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    adapter = Adapter.model_validate(done.pop("adapter"))
    done.pop("host", None)
    place = adapter_store.adapter_folder(adapter, home)
    if adapter_store.problems_of(adapter, place):
        return None
    return TrainedAdapter(
        adapter=adapter,
        folder=place,
        curve=folder / "curve.jsonl",
        picture=folder / "curve.png",
        skipped=True,
        **done,
    )


def _work(folder: Path, processes: int, on_progress: Progress) -> None:
    """Runs the worker, which goes on from the newest whole checkpoint and leaves `adapter/` in the folder."""
    steps: list[dict[str, Any]] = []

    def relay(event: dict[str, Any]) -> None:
        if event["event"] == "phase":
            on_progress(0, 0, event["text"])
            return
        steps.append(event)
        on_progress(event["step"], event["steps"], _describe(steps[-11:]))

    child.call("tasks.training.worker", folder / "run.json", folder / "train.log", relay, worker_environment(processes))


def worker_environment(processes: int = 1) -> dict[str, str]:
    """What a training process finds in its environment, besides what it inherits; so many share the cores and GPUs."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(processes)))).split(",")
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(max(1, _cores() // processes)),
        # Threads that spin for long while others use the cores make a step five times as long. Those that spin for some
        # microseconds before they sleep take a third of it off on 2 idle cores, and cost nothing on busy ones.
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "1000",
        "CUDA_VISIBLE_DEVICES": ",".join(gpus[:processes]),  # one each: TRL refuses DataParallel
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _describe(recent: list[dict[str, Any]]) -> str:
    """The last step in words, its speed over the recent ones."""
    first, last = recent[0], recent[-1]
    loss = "not finite" if last["loss"] is None else f"{last['loss']:.3f}"
    text = f"step {last['step']}/{last['steps']}, loss {loss}"
    elapsed = last["seconds"] - first["seconds"]
    if elapsed <= 0:
        return text
    speed = (last["tokens"] - first["tokens"]) / elapsed
    left = elapsed / (last["step"] - first["step"]) * (last["steps"] - last["step"])
    return f"{text}, {speed:.0f} tokens/s, {left:.0f} s left"


def _check_servable(folder: Path, config: TrainingConfig, modules: set[str]) -> None:
    """By the files themselves: a new peft may write something else than its settings say."""
    adapter_config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    problems = problems_with(
        adapter_config, read_shapes(folder / "adapter_model.safetensors"), config.lora.rank, modules
    )
    if problems:
        raise SlipwayError("vLLM would refuse what was trained", where=str(folder), problems=problems)


def _finish(folder: Path, home: Path) -> TrainedAdapter:
    """Puts the adapter under its digest and writes done.json last: what has it is complete."""
    adapter = adapter_store.describe(folder / "adapter")
    adapter_store.store(folder / "adapter", adapter, home)
    points = loss_curve.read(folder / "curve.jsonl")
    last = [point.loss for point in points[-max(1, len(points) // 10) :] if point.loss is not None]
    done = {
        "host": socket.gethostname(),
        "adapter": adapter.model_dump(mode="json"),
        "final_loss": sum(last) / len(last),
        "trained_tokens": points[-1].tokens,
        "seconds": points[-1].seconds,
        "peak_bytes": _peak(folder),
    }
    fresh = folder / "done.json.tmp"
    fresh.write_text(json.dumps(done, indent=1), encoding="utf-8")
    fresh.replace(folder / "done.json")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    shutil.rmtree(folder / "adapter", ignore_errors=True)
    result = _done(folder, home)
    if result is None:
        raise SlipwayError(f"adapter {short(adapter.digest)} was damaged while it was stored", where=str(home))
    return result.model_copy(update={"skipped": False})
