"""What somebody writes who takes TRL as its documentation shows it: the same tokens, labels, order and settings."""

import json
import resource
import sys
import time
from pathlib import Path


def main(spec: Path) -> None:
    """`spec` is JSON: `model`, `config` (a training.yaml), `bf16`, `rows` (in the order of training), `folder`."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    order = json.loads(spec.read_text(encoding="utf-8"))
    config, lora = order["config"], order["config"]["lora"]
    model = AutoModelForCausalLM.from_pretrained(
        order["model"], dtype=torch.bfloat16 if order["bf16"] else torch.float32, local_files_only=True
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(Path(order["folder"]) / "bare"),
            max_steps=config["max_steps"],
            per_device_train_batch_size=config["batch_size"],
            learning_rate=config["learning_rate"],
            lr_scheduler_type=config["scheduler"],
            warmup_steps=config["warmup_ratio"],
            seed=config["seed"],
            bf16=order["bf16"],
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            max_length=None,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(order["rows"]),
        processing_class=AutoTokenizer.from_pretrained(order["model"], local_files_only=True),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=lora["rank"], lora_alpha=lora["alpha"], target_modules=lora["target_modules"]
        ),
    )
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    used = order["rows"][: config["max_steps"] * config["batch_size"]]
    result = {
        "tokens_per_s": sum(len(row["input_ids"]) for row in used) / seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }
    (Path(order["folder"]) / "bare.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
