"""Makes random LoRAs of rank 4, for a child process to run: `python -c TINY_LORA MODEL FOLDER SEED ...`."""

TINY_LORA = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
for folder, seed in zip(sys.argv[2::2], sys.argv[3::2]):
    torch.manual_seed(int(seed))
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(folder)
    model = adapted.unload()
"""
