"""The process that merges an adapter into its base model with peft, and measures what the rounding changes."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tasks.child import OnWorkerEvent, serve

WHOLE = "1000GB"  # one file of weights, whatever its size
LOADED = ("config.json", "generation_config.json", "model.safetensors")


def work(spec: Path, report: OnWorkerEvent) -> None:
    """`spec` is JSON: folders `base`, `adapter`, `target` (to fill), `dtype`, `texts` to try, `result`: a file."""
    order = json.loads(spec.read_bytes())
    base, target = Path(order["base"]), Path(order["target"])
    report({"event": "phase", "text": "importing torch and peft"})
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report({"event": "phase", "text": "loading base model and adapter"})
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=order["dtype"]).eval()
    model = PeftModel.from_pretrained(model, order["adapter"]).eval()
    encoded = [AutoTokenizer.from_pretrained(base)(text, return_tensors="pt") for text in order["texts"]]
    before = [_logits(model, one) for one in encoded]
    report({"event": "phase", "text": "merging"})
    model = model.merge_and_unload(safe_merge=True)
    measured = _compare(before, [_logits(model, one) for one in encoded])
    report({"event": "phase", "text": "saving the merged model"})
    model.save_pretrained(target, max_shard_size=WHOLE)
    for name in order["beside"]:
        if name not in LOADED and (base / name).is_file():
            shutil.copyfile(base / name, target / name)  # the tokenizer as it is: the very same bytes
    Path(order["result"]).write_text(json.dumps(measured), encoding="utf-8")


def _logits(model: Any, encoded: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(**encoded).logits[0].float()


def _compare(before: list[Any], after: list[Any]) -> dict[str, float]:
    """Over all positions of all texts: those that still have the same likeliest token, and the largest change."""
    positions = sum(one.shape[0] for one in before)
    pairs = list(zip(before, after, strict=True))
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
    largest = max((float((a - b).abs().max()) for a, b in pairs), default=0.0)
    return {"positions": positions, "same": same, "largest": largest}


if __name__ == "__main__":
    sys.exit(serve(work, "the merged model"))
