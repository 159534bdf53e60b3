"""Our rules of what vLLM serves against vLLM's own loader, in its own environment: they must agree."""

import json
import subprocess
from pathlib import Path

import numpy
import pytest
from places import ROOT
from safetensors.numpy import save_file

from delivery.build.servable import problems_with
from delivery.clients.bundles.safetensors_header import read_shapes

pytestmark = pytest.mark.live

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MAX_RANK = 16
LOADER = """
import json, sys
from types import SimpleNamespace
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper
folders, modules, rank = json.load(sys.stdin)
verdicts = []
for folder in folders:
    try:
        helper = PEFTHelper.from_local_dir(folder, 1024)
        helper.validate_legal(SimpleNamespace(max_lora_rank=rank))
        LoRAModel.from_local_checkpoint(folder, set(modules), helper, lora_model_id=1, device="cpu")
        verdicts.append("")
    except Exception as error:
        verdicts.append(f"{type(error).__name__}: {error}")
print("VERDICTS" + json.dumps(verdicts))
"""
PLAIN = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none", "init_lora_weights": True}
CASES = {
    "plain": ({}, "q_proj"),
    "rslora": ({"use_rslora": True}, "q_proj"),
    "patterns": ({"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 2}}, "q_proj"),
    "gaussian": ({"init_lora_weights": "gaussian"}, "q_proj"),
    "eva": ({"init_lora_weights": "eva"}, "q_proj"),
    "dora": ({"use_dora": True}, "q_proj"),
    "bias": ({"bias": "all"}, "q_proj"),
    "lora bias": ({"lora_bias": True}, "q_proj"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "q_proj"),
    "pissa": ({"init_lora_weights": "pissa"}, "q_proj"),
    "olora": ({"init_lora_weights": "olora"}, "q_proj"),
    "corda": ({"init_lora_weights": "corda"}, "q_proj"),
    "loftq": ({"init_lora_weights": "loftq"}, "q_proj"),
    "rank": ({"r": 32}, "q_proj"),
    "rank pattern": ({"rank_pattern": {"q_proj": 32}}, "q_proj"),
    "alora": ({"alora_invocation_tokens": [1]}, "q_proj"),
    "replication": ({"layer_replication": [[0, 1]]}, "q_proj"),
    "qalora": ({"use_qalora": True}, "q_proj"),
    "unknown module": ({"target_modules": "all-linear"}, "w_pack"),
}


def write_adapter(folder: Path, changes: dict, module: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | changes))
    names = [f"base_model.model.model.layers.0.self_attn.{module}.lora_{side}.weight" for side in "AB"]
    save_file({name: numpy.zeros((4, 4), numpy.float32) for name in names}, folder / "adapter_model.safetensors")
    return folder


def test_every_verdict_of_ours_is_vllms_own(tmp_path):
    folders = {name: write_adapter(tmp_path / name, *case) for name, case in CASES.items()}
    stdin = json.dumps([[str(folder) for folder in folders.values()], MODULES, MAX_RANK])
    run = subprocess.run([PYTHON, "-c", LOADER], input=stdin, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    theirs = dict(zip(folders, json.loads(run.stdout.rpartition("VERDICTS")[2]), strict=True))
    ours = {
        name: [
            str(problem)
            for problem in problems_with(
                PLAIN | CASES[name][0], read_shapes(folder / "adapter_model.safetensors"), MAX_RANK, MODULES
            )
        ]
        for name, folder in folders.items()
    }
    disagreements = {name: (theirs[name], ours[name]) for name in CASES if bool(theirs[name]) != bool(ours[name])}
    assert disagreements == {}
    assert {name for name in CASES if not theirs[name]} == {"plain", "rslora", "patterns", "gaussian", "eva"}
