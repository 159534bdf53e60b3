"""The process that turns a GGUF into a folder of bf16 safetensors with tokenizer and chat template."""

import json
import sys
from pathlib import Path

from tasks.child import OnWorkerEvent, serve


def work(spec: Path, report: OnWorkerEvent) -> None:
    """`spec` is JSON: `gguf`, the file, and `target`, the folder to fill."""
    order = json.loads(spec.read_bytes())
    source, target = Path(order["gguf"]), Path(order["target"])
    report({"event": "phase", "text": "importing torch and transformers"})
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    report({"event": "phase", "text": f"dequantising {source.name}: once, about half a minute"})
    model = AutoModelForCausalLM.from_pretrained(
        str(source.parent), gguf_file=source.name, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    report({"event": "phase", "text": "saving bf16 safetensors"})
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    sys.exit(serve(work, "the base model"))
