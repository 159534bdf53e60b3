"""From rows and settings to an adapter, in a process of its own; what was trained before is found, not repeated.

Doors: `train` (the verb), `model` (the base model as a folder), `chat` (how a conversation becomes the tokens that vLLM
sees), `methods` (SFT and DPO; a new one is a file there and a name in `configs.training.MethodName`).
"""
