"""One training run with TRL and peft, inside the worker process: rows in, adapter files out.

Everything heavy is imported at the top, because nothing but the worker imports this module.
"""

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
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig

from configs.errors import SlipwayError
from configs.strict import Strict
from configs.training import TrainingConfig
from tasks.child import OnWorkerEvent
from tasks.training import loss_curve
from tasks.training.loss_mask import audit
from tasks.training.rows import TokenRow, order_of, tokenise, with_system_prompt
from tasks.training.trainer import CpuAwareTrainer, computes_in_bf16

COMPLETE = "complete"  # a checkpoint without this file was being written when the process died


class TrainingRun(Strict):
    """What the worker is told; a JSON file beside the training's logs."""

    rows: Path  # train.jsonl of a dataset version
    model: Path
    model_revision: str
    config: TrainingConfig
    system_prompt: str
    folder: Path  # checkpoints, curve, audit and adapter go here


class Recorder(TrainerCallback):  # type: ignore[misc]
    """Keeps the curve, reports each step, marks whole checkpoints, and stops a run that is no longer finite."""

    def __init__(self, run: TrainingRun, report: OnWorkerEvent, curve: Path, kept: Sequence[loss_curve.Point]):
        self.run, self.report, self.curve = run, report, curve
        self.before = kept[-1] if kept else loss_curve.Point(0, None, 0.0, None, 0, 0.0)
        self.points = list(kept)
        self.trainer: CpuAwareTrainer | None = None
        self.started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Once per optimizer step, before its checkpoint is saved."""
        if logs is None or "loss" not in logs or self.trainer is None:
            return
        point = loss_curve.Point(
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

    def _stop(self, point: loss_curve.Point, logs: dict[str, float]) -> None:
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
    tokenizer = AutoTokenizer.from_pretrained(run.model, local_files_only=True, trust_remote_code=False)
    rows = tokenise(_read_rows(run), tokenizer, _stop_ids(run.model, tokenizer), run.config.max_sequence_tokens)
    order = order_of([len(r.input_ids) for r in rows], run.config.batch_size, run.config.epochs, run.config.seed)
    report({"event": "phase", "text": f"{len(rows)} rows, loading the model"})
    checkpoint = _newest_checkpoint(run.folder / "checkpoints")
    curve = run.folder / "curve.jsonl"
    kept = loss_curve.restart(curve, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    recorder = Recorder(run, report, curve, kept)
    trainer = _trainer(run, tokenizer, [rows[i] for i in order], recorder)
    recorder.trainer = trainer
    _prove_mask(run, rows, order, trainer, tokenizer)
    where = f"resuming at step {kept[-1].step}" if kept else f"{trainer.args.max_steps} steps"
    report({"event": "phase", "text": f"loss mask proven on {len(rows)} rows, {where}"})
    recorder.started = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        if recorder.points:
            loss_curve.draw(recorder.points, run.folder / "curve.png", f"{run.folder.name}: {len(rows)} rows")
    _save_adapter(run, trainer.model)


def _read_rows(run: TrainingRun) -> Iterator[tuple[str, list[dict[str, str]]]]:
    with run.rows.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["id"], with_system_prompt(row["messages"], run.system_prompt)


def _stop_ids(model: Path, tokenizer: Any) -> frozenset[int]:
    """The tokens at which vLLM ends an answer: the tokenizer's, and those of generation_config.json."""
    ids = {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        if (model / name).exists():
            found = json.loads((model / name).read_text(encoding="utf-8")).get("eos_token_id")
            ids.update(found if isinstance(found, list) else [found])
    return frozenset(ids - {None})


def _newest_checkpoint(folder: Path) -> Path | None:
    whole = []
    for path in sorted(folder.glob("checkpoint-*")):
        if (path / COMPLETE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _trainer(run: TrainingRun, tokenizer: Any, rows: Sequence[TokenRow], recorder: Recorder) -> CpuAwareTrainer:
    config, cuda, half = run.config, torch.cuda.is_available(), computes_in_bf16()
    steps = math.ceil(len(rows) / (config.batch_size * config.gradient_accumulation_steps))
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
    arguments = SFTConfig(
        output_dir=str(run.folder / "checkpoints"),
        max_steps=min(steps, config.max_steps or steps),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup_ratio,  # below 1 it is a share of the steps
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_gradient_norm,
        seed=config.seed,
        bf16=half,
        use_cpu=not cuda,
        gradient_checkpointing=False,
        packing=False,
        max_length=None,  # longer rows were refused; TRL would cut them
        train_sampling_strategy="sequential",  # `rows` is in the order of training
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=config.checkpoint_every_steps,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
    )
    data = Dataset.from_dict({"input_ids": [r.input_ids for r in rows], "labels": [r.labels for r in rows]})
    return CpuAwareTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[recorder],
    )


def _prove_mask(
    run: TrainingRun, rows: Sequence[TokenRow], order: Sequence[int], trainer: CpuAwareTrainer, tokenizer: Any
) -> None:
    """Audits each row once, where it first comes up in what the trainer will feed."""
    first = {row: position for position, row in reversed(list(enumerate(order)))}

    def fed() -> Iterator[tuple[list[int], list[int]]]:
        for position in first.values():
            batch = trainer.data_collator([trainer.train_dataset[position]])
            real = batch["attention_mask"][0].bool()
            yield batch["input_ids"][0][real].tolist(), batch["labels"][0][real].tolist()

    proof = audit([rows[row] for row in first], fed(), tokenizer)
    (run.folder / "mask_audit.json").write_text(json.dumps(asdict(proof), indent=1, ensure_ascii=False), "utf-8")


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
