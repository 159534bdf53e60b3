"""One training run with TRL and peft, inside the worker process: rows in, adapter files out.

What differs from method to method is in `tasks.training.methods`: how rows become tokens, the trainer, the audit.
Everything heavy is imported at the top, because nothing but the worker imports this module.
"""

import importlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from pydantic import Field, JsonValue
from transformers import AutoModelForCausalLM, TrainerCallback

from configs.errors import SlipwayError
from configs.strict import Strict
from configs.training import TrainingConfig
from tasks.child import OnWorkerEvent
from tasks.training import loss_curve
from tasks.training.chat import open_chat
from tasks.training.methods import Items, Method
from tasks.training.rows import order_of

COMPLETE = "complete"  # a checkpoint without this file was being written when the process died


class TrainingRun(Strict):
    """What the worker is told; a JSON file beside the training's logs."""

    rows: Path  # train.jsonl of a dataset version
    model: Path
    model_revision: str
    config: TrainingConfig
    system_prompt: str
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    folder: Path  # checkpoints, curve, audit and adapter go here


class Recorder(TrainerCallback):  # type: ignore[misc]
    """Keeps the curve, reports each step, marks whole checkpoints, and stops a run that is no longer finite."""

    def __init__(self, run: TrainingRun, report: OnWorkerEvent, curve: Path, kept: Sequence[loss_curve.LossPoint]):
        self.run, self.report, self.curve = run, report, curve
        self.before = kept[-1] if kept else loss_curve.LossPoint(0, None, 0.0, None, 0, 0.0)
        self.points = list(kept)
        self.trainer: Any = None
        self.started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Once per optimizer step, before its checkpoint is saved."""
        if logs is None or "loss" not in logs or self.trainer is None:
            return
        point = loss_curve.LossPoint(
            step=state.global_step,
            loss=loss_curve.finite_or_none(logs["loss"]),
            lr=logs["learning_rate"],
            grad_norm=loss_curve.finite_or_none(logs["grad_norm"]),
            tokens=self.before.tokens + self.trainer.seen_tokens,
            seconds=round(self.before.seconds + time.monotonic() - self.started, 3),
        )
        loss_curve.append(self.curve, point)
        self.points.append(point)
        self.report({"event": "step", "steps": state.max_steps, **asdict(point)})
        if not point.finite or point.grad_norm == 0.0:  # zero: saturated by a step that was far too long
            self._stop(point, logs)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer writes a checkpoint file by file; the mark says that the last one is there."""
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()

    def _stop(self, point: loss_curve.LossPoint, logs: dict[str, float]) -> None:
        last = next((p for p in reversed(self.points[:-1]) if p.finite), None)
        history = f"the last finite loss before was {last.loss:.4g} at step {last.step}" if last else "from the start"
        config = self.run.config
        raise SlipwayError(
            f"training broke at step {point.step}: loss {logs['loss']}, gradient norm {logs['grad_norm']}; " + history,
            where=str(self.curve),
            cure=f"lower learning_rate (it is {config.learning_rate}) or lora.alpha ({config.lora.alpha}), "
            f"or raise warmup_ratio ({config.warmup_ratio})",
        )


def run_training(run: TrainingRun, report: OnWorkerEvent) -> None:
    """Trains from the newest whole checkpoint, or from the start, and leaves `adapter/` in the run's folder."""
    report({"event": "phase", "text": "reading rows"})
    method: Method = importlib.import_module(f"tasks.training.methods.{run.config.method}")
    chat = open_chat(run.model, run.chat_template_kwargs)
    items = method.read(_read_rows(run), chat, run.system_prompt, run.config)
    order = order_of(items.lengths, run.config.batch_size, run.config.epochs, run.config.seed)
    report({"event": "phase", "text": f"{items.rows} rows, loading the model"})
    checkpoint = _newest_checkpoint(run.folder / "checkpoints")
    curve = run.folder / "curve.jsonl"
    kept = loss_curve.restart(curve, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    recorder = Recorder(run, report, curve, kept)
    trainer = _trainer(run, method, chat.tokenizer, items, order, recorder)
    recorder.trainer = trainer
    _prove(run, method, items, order, trainer, chat.tokenizer)
    where = f"resuming at step {kept[-1].step}" if kept else f"{trainer.args.max_steps} steps"
    report({"event": "phase", "text": f"loss mask proven on {items.rows} rows, {where}"})
    recorder.started = time.monotonic()
    try:
        # A LoRA is float32 and autocast multiplies it in bf16: peft's way there and back costs a tenth of the time.
        with disable_input_dtype_casting(trainer.model):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        if recorder.points:
            loss_curve.draw(recorder.points, run.folder / "curve.png", f"{run.folder.name}: {items.rows} rows")
    _save_adapter(run, trainer.model)


def _read_rows(run: TrainingRun) -> Iterator[dict[str, Any]]:
    with run.rows.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _newest_checkpoint(folder: Path) -> Path | None:
    whole = []
    for path in sorted(folder.glob("checkpoint-*")):
        if (path / COMPLETE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _trainer(
    run: TrainingRun, method: Method, tokenizer: Any, items: Items, order: Sequence[int], recorder: Recorder
) -> Any:
    config, half = run.config, computes_in_bf16()
    model = AutoModelForCausalLM.from_pretrained(
        run.model,
        dtype=torch.bfloat16 if half else torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    targets = config.lora.target_modules
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=config.lora.rslora,
    )
    return method.trainer(
        config,
        _arguments(run, len(order), half),
        items,
        order,
        model=model,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[recorder],
    )


def _arguments(run: TrainingRun, items: int, half: bool) -> dict[str, Any]:
    """transformers' own training arguments, which every method takes."""
    config, cuda = run.config, torch.cuda.is_available()
    steps = math.ceil(items / (config.batch_size * config.gradient_accumulation_steps))
    return {
        "output_dir": str(run.folder / "checkpoints"),
        "max_steps": min(steps, config.max_steps or steps),
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.scheduler,
        "warmup_steps": config.warmup_ratio,  # below 1 it is a share of the steps
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_gradient_norm,
        "seed": config.seed,
        "bf16": half,
        "use_cpu": not cuda,
        "gradient_checkpointing": False,
        "max_length": None,  # longer rows were refused; TRL would cut them
        "train_sampling_strategy": "sequential",  # the items are in the order of training
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_steps": config.checkpoint_every_steps,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": cuda,
    }


def _prove(run: TrainingRun, method: Method, items: Items, order: Sequence[int], trainer: Any, tokenizer: Any) -> None:
    """Audits each item once, where it first comes up in what the trainer will feed."""
    first = {item: position for position, item in reversed(list(enumerate(order)))}
    batches = ((item, trainer.data_collator([trainer.train_dataset[at]])) for item, at in first.items())
    proof = method.audit(items, batches, tokenizer)
    (run.folder / "mask_audit.json").write_text(json.dumps(proof, indent=1, ensure_ascii=False), "utf-8")


def computes_in_bf16() -> bool:
    """Whether this machine multiplies bf16 in hardware: a GPU, or a CPU with the instructions for it.

    On such a CPU it is twice as fast as float32; on one without, bf16 is emulated and much slower. The LoRA's own
    weights are float32 either way.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _save_adapter(run: TrainingRun, model: Any) -> None:
    """Exactly two files, with nothing in them that tells one machine from another."""
    fresh, final = run.folder / "adapter.tmp", run.folder / "adapter"
    for path in (fresh, final):
        shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(str(fresh), save_embedding_layers=False)
    path = fresh / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = run.model_revision
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])  # peft keeps a set
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for extra in fresh.iterdir():
        if extra.name not in ("adapter_config.json", "adapter_model.safetensors"):
            extra.unlink()
    os.replace(fresh, final)
